"""Small weights: the graphs of a bundle with their matrices in 16, 8 or 4 bits, by each engine's own tools."""
