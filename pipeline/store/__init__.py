"""What the cache is made of: keys, shards, feature sets, tables, atomic writes."""
