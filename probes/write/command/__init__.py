"""Writes by any program."""
