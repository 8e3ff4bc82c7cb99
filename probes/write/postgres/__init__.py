"""Writes to PostgreSQL."""
