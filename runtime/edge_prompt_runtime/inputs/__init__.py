"""Converts requests of callers to the graph's input arrays. One folder per modality."""
