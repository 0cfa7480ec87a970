"""The tasks: questions and scores, one file per task, none of which knows a model."""
