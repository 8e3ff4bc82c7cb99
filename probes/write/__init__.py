"""Write probes: attempt, verify by reading back, undo what leaked. One file per kind of surface."""
