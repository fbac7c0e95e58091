"""What turns raw outputs into answers: heads, non-maximum suppression."""
