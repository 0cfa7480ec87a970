"""Ground that every floor stands on: files, JSON, the Hub."""
