"""`frameloom bench gpu`, and packing what it needs for a machine without a package index."""
