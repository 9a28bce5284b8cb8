"""Export a conditioned module to the graph formats of each engine."""
