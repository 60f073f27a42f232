"""Films of scored footage: the panel below the picture, overlays, and the encoder."""
