"""What was written to a SQLite database."""
