"""What must be known of single settings of PostgreSQL to set them again in another session."""

import re

# Only a superuser, or who was given the right, may set these: where a role is set as well, they come before it.
PRIVILEGED = frozenset(
    b"allow_in_place_tablespaces allow_system_table_mods backtrace_functions commit_delay compute_query_id"
    b" deadlock_timeout debug_discard_caches dynamic_library_path extension_control_path"
    b" ignore_checksum_failure ignore_invalid_pages jit_dump_bitcode lc_messages lo_compat_privileges"
    b" log_duration log_error_verbosity log_executor_stats log_lock_failures log_lock_waits"
    b" log_min_duration_sample log_min_duration_statement log_min_error_statement log_min_messages"
    b" log_parameter_max_length log_parser_stats log_planner_stats log_replication_commands log_statement"
    b" log_statement_sample_rate log_statement_stats log_temp_files log_transaction_sample_rate"
    b" max_stack_depth session_preload_libraries session_replication_role temp_file_limit track_activities"
    b" track_cost_delay_timing track_counts track_functions track_io_timing track_wal_io_timing"
    b" update_process_title wal_compression wal_consistency_checking wal_init_zero wal_recycle"
    b" zero_damaged_pages".split()
)
PRIVILEGED_PREFIXES = (b"auto_explain.", b"pg_stat_statements.", b"plpgsql.", b"plperl.", b"pltcl.")

# The first excludes the others: what is off must be set before what is on.
EXCLUSIVE = frozenset(
    (b"log_statement_stats", b"log_parser_stats", b"log_planner_stats", b"log_executor_stats")
)

# PostgreSQL refuses it where temporary tables have been used.
UNCERTAIN = frozenset((b"temp_buffers",))

# Time limits that end a statement, or the connection, of whoever has the server then.
LIMITS = frozenset((b"statement_timeout", b"lock_timeout", b"transaction_timeout"))
IDLE_LIMIT = b"idle_session_timeout"
SHORT = 250.0  # milliseconds; a restore may take as long when the machine is busy

_UNITS = {b"us": 0.001, b"": 1.0, b"ms": 1.0, b"s": 1e3, b"min": 6e4, b"h": 3.6e6, b"d": 8.64e7}
_DURATION = re.compile(
    rb"(?:.*(?:=|\sTO\s))?\s*'?\s*(0|[1-9]\d*)\s*(us|ms|s|min|h|d|)\s*'?\s*;?\s*", re.I | re.S
)


def is_privileged(name: bytes) -> bool:
    """Whether it takes more than an ordinary role to set it."""
    return name in PRIVILEGED or name.startswith(PRIVILEGED_PREFIXES)


def must_not_stay(name: bytes, value: bytes) -> bool:
    """Whether a setting must not be in force on a server that waits for its next client.

    `value`: as PostgreSQL shows it ("30s"), or the SET that made it. What cannot be read must not stay.
    """
    if name != IDLE_LIMIT and (name not in LIMITS or name == b"lock_timeout"):
        return False
    found = _DURATION.fullmatch(value)
    if found is None:
        return True
    duration = float(found[1]) * _UNITS[found[2].lower()]
    return duration > 0 and (name == IDLE_LIMIT or duration < SHORT)
