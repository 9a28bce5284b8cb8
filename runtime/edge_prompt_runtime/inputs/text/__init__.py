"""Texts: tokenised so that they fit next to a prompt."""
