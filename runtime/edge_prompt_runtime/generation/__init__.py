"""From logits to text: settings, sampling, pieces, stopping, chat templates, and the loop over a batch of rows."""
