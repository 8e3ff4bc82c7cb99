"""Probes against real servers: what they say of every answer, and what they do to a target."""
