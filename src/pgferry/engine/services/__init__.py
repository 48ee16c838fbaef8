"""What pgferry asks PostgreSQL for itself: auth_query, notifications, catalog; and replication."""
