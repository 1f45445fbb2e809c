"""From raw videos to aligned clips to train on: the stages of the LatentSync paper (arXiv 2412.09262, sec. 4.1)."""
