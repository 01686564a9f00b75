"""One unit of work each: one call into the core, with its name, retries, time limit and cache key."""
