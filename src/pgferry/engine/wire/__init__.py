"""PostgreSQL's messages as bytes, and network addresses."""
