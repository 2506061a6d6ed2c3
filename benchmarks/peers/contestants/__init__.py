"""Who takes part: one file a contestant."""
