"""The process that owns everything but client traffic: configuration, workers, signals, console."""
