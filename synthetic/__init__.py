"""Small drawn images of known content, for the embedded model and the embedded data."""
