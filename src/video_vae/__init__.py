"""Train, reconstruct with and measure a video VAE: 4x8x8 compression, three stages, honest metrics."""

__version__ = "0.2.0"
