"""From crops and sound to crops that speak: condition, denoise, decode."""
