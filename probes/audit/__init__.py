"""Storage audits: what a store itself says was written to it."""
