"""Passes that rewrite an ONNX graph after its export."""
