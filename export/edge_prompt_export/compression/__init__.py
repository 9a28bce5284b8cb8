"""Compression of weights and activations to int8, int4 or half precision, for each engine."""
