"""Files that are written atomically and survive a crash."""
