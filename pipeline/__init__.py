"""Order, cache, execution, metrics, reports, command line."""
