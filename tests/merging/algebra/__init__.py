"""Tests of merging: arithmetic against dense float64 oracles written from the definitions."""
