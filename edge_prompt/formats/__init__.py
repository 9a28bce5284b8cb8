"""The file formats of bundles and tasks: their fields, their shapes, and their checks."""
