"""The modality of causal language models."""
