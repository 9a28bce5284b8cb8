"""From logits to text: settings, sampling, detokenisation, stop strings, and the loop over a batch of rows."""
