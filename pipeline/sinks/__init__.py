"""Receivers of the results: recordings, events, windows, pictures."""
