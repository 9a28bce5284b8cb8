"""Readers that trust nothing: size and work are bounded before they are spent."""
