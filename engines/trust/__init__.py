"""Does a compiled engine still say what its model file says? It is not used before that is known."""
