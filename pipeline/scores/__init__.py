"""Score folders: files, maps, events, and rows as frames."""
