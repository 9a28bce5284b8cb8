"""Readers for untrusted files, which bound size and work before spending them."""
