"""The files of a bundle and of a task: their fields, shapes, and what they must hold."""
