"""What pgferry tells about itself: log, metrics, health, dashboard."""
