"""Fast paths, each beside its plain reference."""
