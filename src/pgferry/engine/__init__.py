"""The compiled hot path: event loop, framing, relay, pool checkout, prepared statements, counters."""
