"""Trace a result back to all that made it, and check whether that is still the same. Imports no torch."""
