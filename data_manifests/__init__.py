"""Which videos, which splits, which labels."""
