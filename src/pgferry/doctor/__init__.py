"""`pgferry doctor`: what the practice of pooling knows, checked against a configuration, a pooler, a server."""
