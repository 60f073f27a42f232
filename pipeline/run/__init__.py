"""Whole runs: run files, the stages in order, the demo."""
