"""How many bytes travel for a change of a model, and how fast a package is cut and hashed."""
