"""Talking heads made by formula: faces, voices and mouths to train and test a lip-sync model on, without any data."""
