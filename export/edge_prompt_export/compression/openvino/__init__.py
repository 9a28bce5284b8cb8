"""Compression of graphs for OpenVINO."""
