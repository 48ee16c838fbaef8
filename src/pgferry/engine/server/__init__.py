"""Connections to PostgreSQL: login, relay of answers, errors."""
