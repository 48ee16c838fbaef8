"""Configuration: reading, checking and describing it. Start with load()."""

from pgferry.config.global_settings import Settings
from pgferry.config.load import keep_start_settings, load, with_overrides
from pgferry.config.model import Config, Database, Peer, User
from pgferry.config.problems import ConfigError, Problem
from pgferry.config.settings import format_value, settings_by_name
from pgferry.config.show import show_config_rows
from pgferry.config.url import from_url

__all__ = [
    "Config",
    "ConfigError",
    "Database",
    "Peer",
    "Problem",
    "Settings",
    "User",
    "format_value",
    "from_url",
    "keep_start_settings",
    "load",
    "settings_by_name",
    "show_config_rows",
    "with_overrides",
]
