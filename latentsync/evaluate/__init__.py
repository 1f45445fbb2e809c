"""How good lip-synced videos are: figures against the true pictures, and of lips and sound."""
