"""Causal language models on the device: compiled prompts, rows under way, what they answer."""
