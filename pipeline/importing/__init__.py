"""Features that others have extracted: files, names, layouts, comparison."""
