"""What lies in memory that all workers share: counts, durations."""
