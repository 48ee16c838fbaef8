"""Global settings of access: login, console rights, name lookup and TLS."""

from __future__ import annotations

from pgferry.config.kinds import TEXT, TEXT_LIST, TIME, Kind, enum
from pgferry.config.setting import Setting

_LOGIN = "Login and console"
_DNS = "Name lookup"
_TLS = "TLS"

AUTH_TYPES = ("any", "trust", "plain", "md5", "scram-sha-256", "cert", "hba", "ldap", "pam")
_SSLMODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
NO_TLS = "connections are not encrypted"

AUTH_QUERY = (
    "SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END "
    "FROM pg_authid WHERE rolname=$1 AND rolcanlogin"
)

LOGIN: tuple[Setting, ...] = (
    Setting(
        name="auth_type",
        default="md5",
        kind=enum(*AUTH_TYPES),
        group=_LOGIN,
        pending_values=("cert",),
        pending_reason="clients log in with any, trust, plain, md5, scram-sha-256, hba, ldap or pam",
        text="How clients prove who they are; md5 becomes SCRAM for a user whose secret is a SCRAM verifier.",
    ),
    Setting(
        name="auth_file",
        default=None,
        kind=TEXT,
        unit="path",
        group=_LOGIN,
        text='File with the users and their secrets, one `"user" "secret"` on each line, read again at '
        "RELOAD and when it has changed.",
    ),
    Setting(
        name="auth_hba_file",
        default="",
        kind=TEXT,
        unit="path",
        group=_LOGIN,
        text="File with the rules of auth_type = hba.",
    ),
    Setting(
        name="auth_ident_file",
        default=None,
        kind=TEXT,
        unit="path",
        group=_LOGIN,
        text="File that maps system users to database users for auth_type = hba.",
    ),
    Setting(
        name="auth_user",
        default=None,
        kind=TEXT,
        group=_LOGIN,
        text="User that looks up users unknown to auth_file with auth_query.",
    ),
    Setting(
        name="auth_query",
        default=AUTH_QUERY,
        kind=TEXT,
        group=_LOGIN,
        text="Query that returns name and secret of the user $1, in two columns; a NULL secret fits no password.",
    ),
    Setting(
        name="auth_dbname",
        default=None,
        kind=TEXT,
        group=_LOGIN,
        text="Database in which auth_query runs; unset means the one that the client asks for.",
    ),
    Setting(
        name="auth_ldap_options",
        default=None,
        kind=TEXT,
        group=_LOGIN,
        text="Options of auth_type = ldap.",
    ),
    Setting(
        name="admin_users",
        default="",
        kind=TEXT_LIST,
        group=_LOGIN,
        text="Users who may run every command of the admin console.",
    ),
    Setting(
        name="stats_users",
        default="",
        kind=TEXT_LIST,
        group=_LOGIN,
        text="Users who may run the reading commands of the admin console.",
    ),
)

DNS: tuple[Setting, ...] = (
    Setting(
        name="dns_max_ttl",
        default="15",
        kind=TIME,
        unit="s",
        group=_DNS,
        text="Longest time that the addresses of a server's host name are remembered; the TTL of the name "
        "server's answer holds when it is shorter.",
    ),
    Setting(
        name="dns_nxdomain_ttl",
        default="15",
        kind=TIME,
        unit="s",
        group=_DNS,
        text="How long a failed lookup is remembered.",
    ),
    Setting(
        name="dns_zone_check_period",
        default="0",
        kind=TIME,
        unit="s",
        group=_DNS,
        text="How often the serial number of the zone of each host name is checked; when it has changed, "
        "names are asked for again. 0 is off.",
    ),
    Setting(
        name="resolv_conf",
        default="",
        kind=TEXT,
        unit="path",
        group=_DNS,
        reload=False,
        text="Resolver configuration to use instead of /etc/resolv.conf; the system's other sources of names "
        "(nsswitch.conf) are not asked then.",
    ),
)


def _tls(name: str, default: str | None, text: str, kind: Kind = TEXT, unit: str = "") -> Setting:
    return Setting(name=name, default=default, kind=kind, unit=unit, group=_TLS, pending=NO_TLS, text=text)


TLS: tuple[Setting, ...] = (
    Setting(
        name="client_tls_sslmode",
        default="disable",
        kind=enum(*_SSLMODES),
        group=_TLS,
        pending_values=_SSLMODES[1:],
        pending_reason=NO_TLS,
        text="Whether clients may or must use TLS, and whether they need a certificate; only `disable` "
        "works yet.",
    ),
    _tls("client_tls_key_file", "", "Private key shown to clients.", unit="path"),
    _tls("client_tls_cert_file", "", "Certificate shown to clients.", unit="path"),
    _tls("client_tls_ca_file", "", "Certificates that sign valid client certificates.", unit="path"),
    _tls("client_tls_protocols", "secure", "TLS versions allowed for clients."),
    _tls("client_tls_ciphers", "default", "Ciphers allowed for clients up to TLS 1.2."),
    _tls("client_tls13_ciphers", None, "Cipher suites allowed for clients with TLS 1.3."),
    _tls("client_tls_dheparams", "auto", "Key exchange with DHE for clients."),
    _tls("client_tls_ecdhcurve", "auto", "Curve of the ECDH key exchange for clients."),
    Setting(
        name="server_tls_sslmode",
        default="prefer",
        kind=enum(*_SSLMODES),
        group=_TLS,
        pending_values=_SSLMODES[3:],
        pending_reason=NO_TLS,
        text="Whether connections to servers use TLS; `disable`, `allow` and `prefer` all give a plain "
        "connection yet, the stricter modes are refused.",
    ),
    _tls("server_tls_ca_file", "", "Certificates that sign valid server certificates.", unit="path"),
    _tls("server_tls_key_file", "", "Private key shown to servers.", unit="path"),
    _tls("server_tls_cert_file", "", "Certificate shown to servers.", unit="path"),
    _tls("server_tls_protocols", "secure", "TLS versions allowed for servers."),
    _tls("server_tls_ciphers", "default", "Ciphers allowed for servers up to TLS 1.2."),
    _tls("server_tls13_ciphers", None, "Cipher suites allowed for servers with TLS 1.3."),
)
