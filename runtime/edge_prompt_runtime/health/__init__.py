"""How a runtime is: what it was asked, how long answers took, what it loaded, let go and refused, what it holds."""
