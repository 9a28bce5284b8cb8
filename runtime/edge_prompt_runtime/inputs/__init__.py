"""From what a caller asks about to the graph's input arrays. One folder per modality."""
