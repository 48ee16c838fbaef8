"""The admin console: a PostgreSQL-protocol server inside the supervisor."""
