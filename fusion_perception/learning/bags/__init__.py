"""Read recordings as a node would, and judge what comes of them."""
