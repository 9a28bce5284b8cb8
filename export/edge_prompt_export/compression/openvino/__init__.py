"""Compressing graphs for OpenVINO."""
