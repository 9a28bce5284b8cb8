"""The base layer: errors, the version, optional dependencies, and lazy imports."""
