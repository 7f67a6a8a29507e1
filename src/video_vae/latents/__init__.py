"""The cached posterior moments of the frozen spatial VAE, and statistics of latents."""
