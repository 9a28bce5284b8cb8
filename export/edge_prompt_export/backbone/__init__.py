"""A frozen network in memory, and what every conditioned module is."""
