"""Texts: tokens that fit beside a prompt."""
