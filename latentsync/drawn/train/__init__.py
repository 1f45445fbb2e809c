"""Training of the small model's VAE and audio encoder."""
