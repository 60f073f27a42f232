"""The report stage: the page of a score folder."""
