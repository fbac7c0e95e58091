"""The command line and the offline jobs."""
