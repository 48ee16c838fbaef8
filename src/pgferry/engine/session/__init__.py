"""Session state: what statements do to a session, what it holds, what a client needs of it."""
