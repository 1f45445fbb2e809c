"""The networks that LatentSync itself defines."""
