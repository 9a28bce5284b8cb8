"""Signatures of bundles and prompts, and whose are trusted."""
