"""Walk back from a result to all that made it, and see whether it is still the same. Imports no torch."""
