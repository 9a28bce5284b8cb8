"""A store of tasks: folders of prompts, served by name."""
