"""Global settings of access: login, console rights, name lookup and TLS."""

from __future__ import annotations

from pgferry.config.kinds import TEXT, TEXT_LIST, TIME, enum
from pgferry.config.setting import Setting

_LOGIN = "Login and console"
_DNS = "Name lookup"
_TLS = "TLS"

AUTH_TYPES = ("any", "trust", "plain", "md5", "scram-sha-256", "cert", "hba", "ldap", "pam")
_SSLMODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

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
        text="How clients prove who they are; md5 becomes SCRAM for a user whose secret is a SCRAM verifier.",
    ),
    Setting(
        name="auth_file",
        default=None,
        kind=TEXT,
        unit="path",
        group=_LOGIN,
        file_only=True,
        text='File with the users and their secrets, one `"user" "secret"` on each line, read again at '
        "RELOAD and when it has changed.",
    ),
    Setting(
        name="auth_hba_file",
        default="",
        kind=TEXT,
        unit="path",
        group=_LOGIN,
        file_only=True,
        text="File with the rules of auth_type = hba.",
    ),
    Setting(
        name="auth_ident_file",
        default=None,
        kind=TEXT,
        unit="path",
        group=_LOGIN,
        file_only=True,
        text="File that maps system users to database users for auth_type = hba.",
    ),
    Setting(
        name="auth_user",
        default=None,
        kind=TEXT,
        group=_LOGIN,
        file_only=True,
        text="User that looks up users unknown to auth_file with auth_query.",
    ),
    Setting(
        name="auth_query",
        default=AUTH_QUERY,
        kind=TEXT,
        group=_LOGIN,
        file_only=True,
        text="Query that returns name and secret of the user $1, in two columns; a NULL secret fits no password.",
    ),
    Setting(
        name="auth_dbname",
        default=None,
        kind=TEXT,
        group=_LOGIN,
        file_only=True,
        text="Database in which auth_query runs; unset means the one that the client asks for.",
    ),
    Setting(
        name="auth_ldap_options",
        default=None,
        kind=TEXT,
        group=_LOGIN,
        file_only=True,
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
        file_only=True,
        text="Resolver configuration to use instead of /etc/resolv.conf; the system's other sources of names "
        "(nsswitch.conf) are not asked then.",
    ),
)


SSLMODE = enum(*_SSLMODES)
NEGOTIATION = enum("postgres", "direct")


def _tls(name: str, default: str | None, text: str, unit: str = "", *, own: bool = False) -> Setting:
    return Setting(
        name=name,
        default=default,
        kind=TEXT,
        unit=unit,
        group=_TLS,
        text=text,
        own=own,
        file_only=unit == "path",
    )


TLS: tuple[Setting, ...] = (
    Setting(
        name="client_tls_sslmode",
        default="disable",
        kind=SSLMODE,
        group=_TLS,
        text="TLS for clients: `disable` refuses it, `allow` and `prefer` leave it to the client, `require` "
        "demands it, `verify-ca` and `verify-full` demand a valid certificate of the client, too.",
    ),
    _tls("client_tls_key_file", "", "Private key shown to clients.", "path"),
    _tls("client_tls_cert_file", "", "Certificate shown to clients, with those that lead to its CA.", "path"),
    _tls(
        "client_tls_ca_file",
        "",
        "Certificates of the CAs that sign valid client certificates; with it a certificate is asked for, and "
        "one that is shown must be valid in every mode.",
        "path",
    ),
    _tls(
        "client_tls_crl_file", "", "Lists of revoked client certificates, one of each CA.", "path", own=True
    ),
    _tls(
        "client_tls_protocols",
        "secure",
        "TLS versions allowed for clients: a list of tlsv1.0 to tlsv1.3, tlsv1, all, secure and default "
        "(1.2 and 1.3), with ! in front of what is taken away.",
    ),
    _tls(
        "client_tls_ciphers", "default", "Ciphers allowed for clients up to TLS 1.2, as OpenSSL writes them."
    ),
    _tls("client_tls13_ciphers", None, "Cipher suites allowed for clients with TLS 1.3."),
    Setting(
        name="client_tls_dheparams",
        default="auto",
        kind=enum("auto", "none"),
        group=_TLS,
        text="Key exchange with DHE for clients up to TLS 1.2: a group of 2048 bits, or none.",
    ),
    _tls("client_tls_ecdhcurve", "auto", "Curve of the ECDH key exchange for clients: auto, none or a name."),
    Setting(
        name="server_tls_sslmode",
        default="prefer",
        kind=SSLMODE,
        group=_TLS,
        text="TLS towards servers: `disable` is without, `allow` and `prefer` use it if the server has it, "
        "`require` demands it, `verify-ca` demands a valid certificate, `verify-full` also the host's name in it. "
        "Unix sockets are always without.",
    ),
    _tls(
        "server_tls_ca_file",
        "",
        "Certificates of the CAs that sign valid server certificates; the system's if empty.",
        "path",
    ),
    _tls(
        "server_tls_crl_file", "", "Lists of revoked server certificates, one of each CA.", "path", own=True
    ),
    _tls("server_tls_key_file", "", "Private key shown to servers.", "path"),
    _tls("server_tls_cert_file", "", "Certificate shown to servers.", "path"),
    _tls("server_tls_protocols", "secure", "TLS versions allowed for servers, as client_tls_protocols."),
    _tls("server_tls_ciphers", "default", "Ciphers allowed for servers up to TLS 1.2."),
    _tls("server_tls13_ciphers", None, "Cipher suites allowed for servers with TLS 1.3."),
    Setting(
        name="server_tls_sslnegotiation",
        default="postgres",
        kind=NEGOTIATION,
        group=_TLS,
        own=True,
        text="How TLS with a server begins: `postgres` asks first, `direct` does not (PostgreSQL 17, sslmode "
        "`require` and stricter).",
    ),
)
