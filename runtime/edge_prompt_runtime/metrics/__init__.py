"""Metrics of a runtime: counts, latencies and their exposition."""
