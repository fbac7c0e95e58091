"""`frameloom train`: what can be learned from a user's own data."""
