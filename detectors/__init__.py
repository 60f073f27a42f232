"""arrays -> scores: small trainable networks."""
