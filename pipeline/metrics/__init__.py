"""Metrics of scores against labels."""
