"""The arithmetic of merging: adapters in, one update per module out."""
