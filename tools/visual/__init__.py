"""What the units of a network see: its layers, their receptive fields, and the patches that excite them most."""
