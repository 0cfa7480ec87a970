"""Tests: a mirror of the packages, and `official_files.py`, which builds tiny official data."""
