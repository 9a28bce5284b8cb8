"""Tuning: gradient descent on the prompt, an argument of the very module that is exported."""
