"""A worker process: what surrounds the compiled engine."""
