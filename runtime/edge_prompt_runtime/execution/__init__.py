"""Runs requests and their tasks on an engine, and returns the outputs by row."""
