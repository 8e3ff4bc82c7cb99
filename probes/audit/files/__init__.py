"""What changed below a path."""
