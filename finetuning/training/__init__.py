"""Training: from a job to a folder with an adapter."""
