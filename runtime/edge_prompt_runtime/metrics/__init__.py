"""What a runtime counts while it answers, and how it is shown."""
