"""Events of a score folder in the file formats of other programs; one file a format."""
