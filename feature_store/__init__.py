"""Events in Parquet, and time: sources, cleaning, partitions, as-of features, splits."""
