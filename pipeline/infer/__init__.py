"""What runs models on frames: letterbox, detector."""
