"""Measuring on a device: how things are timed, what samples come to, and the file they are kept in."""
