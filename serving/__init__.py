"""A page and an interface over HTTP, on this machine alone, where loaded models answer."""
