"""OpenVINO graphs."""
