"""`pgferry bench`: one database reached in several ways, side by side."""
