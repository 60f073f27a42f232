"""Footage as it is: opening, probing and decoding files and image folders."""
