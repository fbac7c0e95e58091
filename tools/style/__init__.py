"""One picture in the style of a painting, by optimisation: `frameloom style`."""
