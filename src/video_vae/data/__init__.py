"""Clips: tables of them, reading and writing frames, splits, latent caches."""
