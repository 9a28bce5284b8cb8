"""What everything stands on: quiet libraries and scratch folders."""
