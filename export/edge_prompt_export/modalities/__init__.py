"""The modalities, one folder per modality, from checkpoint to training rows; `registry` selects one."""
