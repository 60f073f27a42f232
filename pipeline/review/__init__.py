"""The review page: a folder that opens in a browser, with data in chunks, pictures and previews."""
