"""Compiled engines on disk: what each was made of and for, which one may be used, and what may be deleted."""
