"""Applications' connections: login, relay of messages, prepared statements."""
