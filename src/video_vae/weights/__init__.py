"""Read, check, identify and save weights."""
