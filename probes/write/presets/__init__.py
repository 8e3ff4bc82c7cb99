"""Writes over HTTP whose request, refusal, read-back and undo are known: one YAML file each."""
