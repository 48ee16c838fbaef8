"""Sockets, buffers, TLS, the event loop, text and log lines: knows system calls, not PostgreSQL."""
