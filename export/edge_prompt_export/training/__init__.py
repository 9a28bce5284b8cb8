"""Training a prompt: examples, the loop, the schedule, figures and settings."""
