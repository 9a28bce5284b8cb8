"""Benchmarks on a device: timing, statistics, and the results file."""
