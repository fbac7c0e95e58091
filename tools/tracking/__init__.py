"""Labelled sequences of boxes: read, followed by a tracker, and scored."""
