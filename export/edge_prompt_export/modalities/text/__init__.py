"""The modality of text encoders."""
