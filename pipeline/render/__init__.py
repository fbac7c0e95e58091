"""Draws the results on the picture."""
