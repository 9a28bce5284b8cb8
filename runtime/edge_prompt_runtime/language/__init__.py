"""Causal language models on the device: compiled prompts, rows in progress, and answers."""
