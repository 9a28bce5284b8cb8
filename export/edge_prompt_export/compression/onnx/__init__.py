"""Compression of graphs for ONNX Runtime."""
