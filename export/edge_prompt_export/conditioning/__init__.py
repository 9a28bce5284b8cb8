"""How prompts enter a frozen network: attention, embeddings, virtual tokens and layers."""
