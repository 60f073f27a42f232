"""In-painting: masks, and what fills them."""
