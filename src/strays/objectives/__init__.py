"""Training losses: one file per method, pure functions that return their terms by name."""
