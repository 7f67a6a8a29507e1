"""Inspect a finished run, from a notebook or a script: scores, a clip through the model, latents, interpolation."""
