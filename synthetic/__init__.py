"""Small drawn pictures with known content; the embedded model and the embedded data are made of them."""
