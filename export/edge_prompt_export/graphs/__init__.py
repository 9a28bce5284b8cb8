"""From a conditioned module to the graphs of each engine."""
