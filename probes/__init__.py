"""Measuring: probes ask targets and return observations. Never imports `monitor`, never judges."""
