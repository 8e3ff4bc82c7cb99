"""One file per acceptance target: evidence in, verdict out. Pure folds: no clock, no I/O.

A criterion learns from observations in the order of the ledger and answers `verdict(now)` at any time
without changing. The same evidence and the same plan give the same verdict.
"""
