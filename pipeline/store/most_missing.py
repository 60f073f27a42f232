"""How much may be missing of what a training was asked to use."""

MOST_MISSING = 0.1  # share of training videos that may be left out
