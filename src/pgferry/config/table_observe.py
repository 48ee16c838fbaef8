"""Global settings of what an operator sees: slow transactions, texts of statements."""

from __future__ import annotations

from pgferry.config.kinds import TIME, integer
from pgferry.config.setting import Setting

_OBSERVE = "Observation"

OBSERVE: tuple[Setting, ...] = (
    Setting(
        name="transaction_log_threshold",
        default="0",
        kind=TIME,
        unit="s",
        group=_OBSERVE,
        own=True,
        text="Log a transaction that stays open for longer, and once more when it ends, with the client's "
        "application_name and address; a threshold of the database has precedence. 0 is off.",
    ),
    Setting(
        name="statement_text_length",
        default="0",
        kind=integer(0, 10000),
        unit="bytes",
        group=_OBSERVE,
        own=True,
        text="How much of a statement may be shown, in SHOW LONGEST and in the log lines of "
        "transaction_log_threshold; statements may contain data, so 0 shows nothing.",
    ),
)
