"""Kinds and states of what the engine has, and why pgferry sends what it sends."""
