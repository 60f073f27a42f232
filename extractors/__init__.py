"""pixels -> arrays: frozen networks."""
