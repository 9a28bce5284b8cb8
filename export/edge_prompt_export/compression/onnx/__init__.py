"""Compressing graphs for ONNX Runtime."""
