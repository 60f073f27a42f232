"""Object detection: what finds boxes in a frame, and what is cut out of them."""
