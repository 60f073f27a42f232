"""Pictures side by side on one sheet, for a person to look at."""
