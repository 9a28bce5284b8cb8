"""Signing bundles and prompts, and checking their signatures."""
