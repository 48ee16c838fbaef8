"""Session state in transaction mode: what a statement may leave in a session, told from its text."""
