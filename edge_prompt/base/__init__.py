"""What everything stands on: errors, the version, optional packages, and lazy imports."""
