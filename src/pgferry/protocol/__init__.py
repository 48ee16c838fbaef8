"""PostgreSQL messages, protocol 3.0 and 3.2: built and parsed in plain Python, outside the hot path."""
