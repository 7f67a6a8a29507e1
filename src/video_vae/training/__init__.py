"""Train the video VAE in stages: one trainer, stages as data."""
