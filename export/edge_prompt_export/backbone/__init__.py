"""A frozen network in memory, and the interface of conditioned modules."""
