"""Evaluation: from a model or a file of answers to a score."""
