"""The commands that run on a device, one module per command."""
