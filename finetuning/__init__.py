"""The application: training, its commands, and the per-task scripts."""
