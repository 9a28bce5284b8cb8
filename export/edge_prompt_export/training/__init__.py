"""Training of prompts: examples, the training loop, schedules, metrics and settings."""
