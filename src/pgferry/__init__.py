"""pgferry: a PostgreSQL connection pooler."""

__version__ = "0.1.0"

PGBOUNCER_VERSION = "1.25.2"
"""The PgBouncer whose files, console and messages are followed."""

# Exporters read the first number after the word PgBouncer, so that one has to be PgBouncer's.
VERSION = f"PgBouncer {PGBOUNCER_VERSION} (pgferry {__version__})"
