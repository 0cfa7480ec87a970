"""The models: one file per family, none of which knows a task."""
