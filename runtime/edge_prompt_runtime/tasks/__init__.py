"""Tasks: prompts that are ready to be fed, loaded by hand or read from folders."""
