"""The modality of the user's own modules."""
