"""What is asked and how it is scored: one file per task, none of which knows a model."""
