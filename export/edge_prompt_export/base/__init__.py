"""Shared helpers: silencing libraries, and scratch folders."""
