"""The official metric of each benchmark: strings in, numbers out; knows no task and no model."""
