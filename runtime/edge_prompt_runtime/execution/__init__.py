"""From read requests and tasks to one run of an engine, and back to rows."""
