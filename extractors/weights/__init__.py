"""Pretrained weights: their cards, fetching, reading and loading."""
