"""Small weights and activations: int8, int4 and half precision, on each engine."""
