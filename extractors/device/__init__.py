"""The device on which networks run: turns, batches, resizing, inference."""
