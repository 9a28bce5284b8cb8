"""The modalities: one folder each, from checkpoint to training rows; `registry` chooses."""
