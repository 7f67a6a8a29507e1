"""Reconstruct clips: the model's variants and the baselines, their files, and the records that make runs resumable."""
