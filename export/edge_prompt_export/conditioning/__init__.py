"""How prompts enter a frozen network: through attention, embeddings, virtual tokens and layers."""
