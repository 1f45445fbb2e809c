"""Training of the U-Net and of StableSyncNet."""
