"""What is rewritten in an ONNX graph after its export."""
