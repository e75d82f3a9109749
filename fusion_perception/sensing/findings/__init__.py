"""Find what keeps a node from predicting, or lets it predict badly, each with its remedy."""
