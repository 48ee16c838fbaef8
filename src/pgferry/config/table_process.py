"""Global settings of the process: files, log, workers, listening, sockets and buffers."""

from __future__ import annotations

from pgferry.config.kinds import BOOL, TEXT, TEXT_LIST, UINT_MAX, WORKERS, integer
from pgferry.config.setting import Setting

_PROCESS = "Process and log"
_LISTEN = "Listening, sockets, buffers"

PROCESS: tuple[Setting, ...] = (
    Setting(
        name="workers",
        default="1",
        kind=WORKERS,
        group=_PROCESS,
        reload=False,
        own=True,
        text="Number of worker processes sharing the ports and the limits; `auto` is one per processor core "
        "that the process may use.",
    ),
    Setting(
        name="logfile",
        default="",
        kind=TEXT,
        unit="path",
        group=_PROCESS,
        file_only=True,
        text="File to append the log to, besides the terminal; it is reopened at every RELOAD. "
        "Empty means no file.",
    ),
    Setting(
        name="pidfile",
        default="",
        kind=TEXT,
        unit="path",
        group=_PROCESS,
        reload=False,
        file_only=True,
        text="File that holds the process number while pgferry runs; a stale one is replaced, a live one "
        "stops the start. Needed for -d.",
    ),
    Setting(
        name="user",
        default=None,
        kind=TEXT,
        group=_PROCESS,
        reload=False,
        file_only=True,
        text="Unix account to change to after reading the configuration when started as root; -u on the "
        "command line has precedence.",
    ),
    Setting(
        name="job_name",
        default="pgbouncer",
        kind=TEXT,
        group=_PROCESS,
        reload=False,
        notice="job_name names a Windows service and has no effect on this system",
        file_only=True,
        text="Name of the Windows service; known so that existing files load, without effect on Linux.",
    ),
    Setting(
        name="conffile",
        default=None,
        kind=TEXT,
        unit="path",
        group=_PROCESS,
        file_only=True,
        text="File that the next RELOAD reads; unset means the file of the command line.",
    ),
    Setting(
        name="syslog",
        default="0",
        kind=BOOL,
        group=_PROCESS,
        file_only=True,
        text="Send log lines of normal level and above to syslog too.",
    ),
    Setting(
        name="syslog_ident",
        default="pgbouncer",
        kind=TEXT,
        group=_PROCESS,
        file_only=True,
        text="Program name under which the lines appear in syslog.",
    ),
    Setting(
        name="syslog_facility",
        default="daemon",
        kind=TEXT,
        group=_PROCESS,
        file_only=True,
        text="Facility of the syslog lines: auth, authpriv, daemon, user or local0 to local7; anything else "
        "counts as daemon.",
    ),
    Setting(
        name="log_connections",
        default="1",
        kind=BOOL,
        group=_PROCESS,
        text="Log every login attempt of a client and every new connection to a server.",
    ),
    Setting(
        name="log_disconnections",
        default="1",
        kind=BOOL,
        group=_PROCESS,
        text="Log every closed connection with its reason.",
    ),
    Setting(
        name="log_pooler_errors",
        default="1",
        kind=BOOL,
        group=_PROCESS,
        text="Log every error that pgferry itself sends to a client.",
    ),
    Setting(
        name="log_stats",
        default="1",
        kind=BOOL,
        group=_PROCESS,
        text="Write one line of totals to the log every stats_period.",
    ),
    Setting(
        name="stats_period",
        default="60",
        kind=integer(1),
        unit="s",
        group=_PROCESS,
        text="Length of the window over which the averages of SHOW STATS and the log line are formed.",
    ),
    Setting(
        name="verbose",
        default=None,
        kind=integer(0),
        group=_PROCESS,
        null_value=0,
        text="How much more to log: 0 is normal, 1 adds DEBUG, 2 adds NOISE; added to the number of -v "
        "flags.",
    ),
)

LISTEN: tuple[Setting, ...] = (
    Setting(
        name="listen_addr",
        default="",
        kind=TEXT_LIST,
        group=_LISTEN,
        reload=False,
        text="Host names or addresses to accept TCP clients on, `*` for all; empty means no TCP.",
    ),
    Setting(
        name="listen_port",
        default="6432",
        kind=integer(1, 65535),
        group=_LISTEN,
        reload=False,
        text="TCP port for clients, and the number in the name of the unix socket.",
    ),
    Setting(
        name="listen_backlog",
        default="128",
        kind=integer(0),
        group=_LISTEN,
        reload=False,
        text="How many not yet accepted connections the kernel may queue.",
    ),
    Setting(
        name="unix_socket_dir",
        default="/tmp",
        kind=TEXT,
        unit="path",
        group=_LISTEN,
        reload=False,
        file_only=True,
        text="Directory of the unix socket for clients, and of the server's socket for databases without "
        "host; `@name` is an abstract socket, empty means none.",
    ),
    Setting(
        name="unix_socket_mode",
        default="0777",
        kind=integer(0, 0o7777),
        unit="octal",
        group=_LISTEN,
        reload=False,
        file_only=True,
        text="File mode of the unix socket; write it with a leading zero, otherwise the number is read as "
        "decimal.",
    ),
    Setting(
        name="unix_socket_group",
        default="",
        kind=TEXT,
        group=_LISTEN,
        reload=False,
        file_only=True,
        text="Group (name or number) that owns the unix socket; empty leaves it as created.",
    ),
    Setting(
        name="so_reuseport",
        default="0",
        kind=BOOL,
        group=_LISTEN,
        reload=False,
        text="Let several independent poolers listen on the same TCP port; `workers` does not need it.",
    ),
    Setting(
        name="peer_id",
        default="0",
        kind=integer(0, 16383),
        group=_LISTEN,
        text="Identity of this pooler in a group that forwards cancel requests to each other; 0 is off.",
    ),
    Setting(
        name="tcp_defer_accept",
        default="1",
        kind=BOOL,
        group=_LISTEN,
        text="Let the kernel report a new TCP client only when its first bytes are there.",
    ),
    Setting(
        name="tcp_keepalive",
        default="1",
        kind=BOOL,
        group=_LISTEN,
        text="Have the kernel probe silent TCP connections; applies to new connections, as all tcp_* "
        "settings.",
    ),
    Setting(
        name="tcp_keepcnt",
        default="0",
        kind=integer(0),
        group=_LISTEN,
        text="Unanswered keepalive probes after which a connection counts as dead; 0 leaves it to the "
        "system.",
    ),
    Setting(
        name="tcp_keepidle",
        default="0",
        kind=integer(0),
        unit="s",
        group=_LISTEN,
        text="Silence before the first keepalive probe; 0 leaves it to the system.",
    ),
    Setting(
        name="tcp_keepintvl",
        default="0",
        kind=integer(0),
        unit="s",
        group=_LISTEN,
        text="Time between keepalive probes; 0 leaves it to the system.",
    ),
    Setting(
        name="tcp_user_timeout",
        default="0",
        kind=integer(0),
        unit="ms",
        group=_LISTEN,
        text="How long sent data may stay unacknowledged before the kernel drops the connection; 0 leaves "
        "it to the system.",
    ),
    Setting(
        name="tcp_socket_buffer",
        default="0",
        kind=integer(0),
        unit="bytes",
        group=_LISTEN,
        text="Size of the kernel's send and receive buffer of each TCP connection; 0 leaves it to the "
        "system.",
    ),
    Setting(
        name="pkt_buf",
        default="4096",
        kind=integer(1),
        unit="bytes",
        group=_LISTEN,
        reload=False,
        text="Step in which a connection's own buffers grow while it has unfinished input or unsent output. "
        "Bytes in passing go through one large buffer of the worker, so an idle connection has none.",
    ),
    Setting(
        name="max_packet_size",
        default="2147483647",
        kind=integer(1, UINT_MAX),
        unit="bytes",
        group=_LISTEN,
        text="Largest protocol message that is let through; a connection that announces a larger one is "
        "closed.",
    ),
    Setting(
        name="sbuf_loopcnt",
        default="5",
        kind=integer(0),
        group=_LISTEN,
        text="How many buffers are read from one connection before the others get their turn; 0 is "
        "unlimited.",
    ),
)
