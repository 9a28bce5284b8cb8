"""A family says what is truly different: where inputs are embedded, which output is the feature."""
