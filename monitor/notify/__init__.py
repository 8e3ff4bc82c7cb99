"""Telling people: one file per way. A notifier says whether trying again may help; it decides nothing."""
