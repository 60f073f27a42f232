"""Network architectures with their converters and weights cards."""
