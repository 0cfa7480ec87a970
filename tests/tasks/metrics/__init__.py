"""Tests of tasks/metrics: hand-worked values, and slow implementations written from the rules."""
