"""Test suites of other projects, run through pgferry and compared with a direct connection."""
