"""Judging: the schedule, the evidence, the verdict, the advice and the gate of a read-only window."""

__version__ = "0.1.0"
