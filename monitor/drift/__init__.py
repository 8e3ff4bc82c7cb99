"""Meaning: embedding answers in a process of its own, ΔS against the baseline, λ as its trend."""
