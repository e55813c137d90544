"""A hub of models and texts: what it lists, fetching, its cache on this disk and who uses what of it."""
