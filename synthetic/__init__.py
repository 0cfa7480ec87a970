"""Small drawn pictures of known content, for the embedded model and the embedded data."""
