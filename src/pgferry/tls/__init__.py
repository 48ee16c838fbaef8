"""TLS outside the hot path: contexts from settings, certificates, the first message of a client."""
