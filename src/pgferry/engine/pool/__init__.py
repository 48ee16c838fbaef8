"""Who gets which server: checkout, release, limits, upkeep, cancel requests."""
