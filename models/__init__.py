"""What answers: one file per model family, none of which knows a task."""
