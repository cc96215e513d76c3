"""How well requests are spread: the router's own decision in a discrete-event model."""
