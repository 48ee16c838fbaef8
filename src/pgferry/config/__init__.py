"""Configuration: reading, checking and describing it. Start with load()."""

from pgferry.config.load import keep_start_settings, load, with_overrides
from pgferry.config.model import Config, Database, Peer, Settings, User
from pgferry.config.problems import ConfigError, Problem
from pgferry.config.settings import format_value, settings_by_name

__all__ = [
    "Config",
    "ConfigError",
    "Database",
    "Peer",
    "Problem",
    "Settings",
    "User",
    "format_value",
    "keep_start_settings",
    "load",
    "settings_by_name",
    "with_overrides",
]
