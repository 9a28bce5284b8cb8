"""Tasks: prompts that are ready to use, loaded explicitly or read from folders."""
