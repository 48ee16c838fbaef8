"""Side-by-side measurements of a direct connection, PgBouncer and pgferry (`python -m bench --help`)."""
