"""From a partitioned cascade to a tile program."""
