"""Global settings of what an operator sees: the HTTP port with metrics and dashboard, slow transactions."""

from __future__ import annotations

from pgferry.config.kinds import BOOL, TEXT, TIME, integer
from pgferry.config.setting import Setting

_OBSERVE = "Metrics and observation"

OBSERVE: tuple[Setting, ...] = (
    Setting(
        name="http_listen",
        default="",
        kind=TEXT,
        group=_OBSERVE,
        reload=False,
        own=True,
        file_only=True,
        text="Address and port of the HTTP server for metrics, health checks and the dashboard, for example "
        "`127.0.0.1:9127`, `[::1]:9127` or `*:9127`; empty means none.",
    ),
    Setting(
        name="metrics_path",
        default="/metrics",
        kind=TEXT,
        group=_OBSERVE,
        own=True,
        text="Path of the metrics in Prometheus format on http_listen; empty means no metrics there.",
    ),
    Setting(
        name="dashboard",
        default="1",
        kind=BOOL,
        group=_OBSERVE,
        own=True,
        text="Serve the dashboard on http_listen, to users of the console (admin_users and stats_users) who "
        "log in there.",
    ),
    Setting(
        name="dashboard_trust",
        default="0",
        kind=BOOL,
        group=_OBSERVE,
        own=True,
        file_only=True,
        text="Log in to the dashboard without a password where the console asks this machine for none "
        "(auth_type trust or any, a trust line of the HBA file). Only for a browser on this machine at 127.0.0.1, "
        "[::1] or localhost; never with a proxy in front of http_listen, whose visitors would all be this machine.",
    ),
    Setting(
        name="otlp_endpoint",
        default="",
        kind=TEXT,
        group=_OBSERVE,
        reload=False,
        own=True,
        file_only=True,
        text="URL of an OpenTelemetry collector that metrics are sent to over HTTP, for example "
        "`http://127.0.0.1:4318/v1/metrics`; needs the packages of `pip install 'pgferry[otel]'`. Empty sends none.",
    ),
    Setting(
        name="otlp_interval",
        default="15",
        kind=TIME,
        unit="s",
        group=_OBSERVE,
        reload=False,
        own=True,
        text="How often metrics are sent to otlp_endpoint.",
    ),
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
        "transaction_log_threshold, and of a value in SHOW CLIENT_STATE for admin_users; statements may contain "
        "data, so 0 shows nothing.",
    ),
)
