"""Tests of tasks: tiny data in the official formats, hand-worked scores, every error sentence."""
