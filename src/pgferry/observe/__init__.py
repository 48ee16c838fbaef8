"""What pgferry tells about itself: log, and later metrics and the dashboard."""
