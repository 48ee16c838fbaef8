"""The differences between PgBouncer and pgferry that stay. docs/from-pgbouncer.md has the reason, in the row named."""

from compat.compare import Known

# Rows of docs/from-pgbouncer.md.
VERSION = "versions, file limits"
SEVERITY = "fields of FATAL errors and of notices"
OWN = "settings and commands of pgferry's own"
LISTS = "lists in SHOW CONFIG"
NO_VALUE = "settings without a value, as `auth_dbname =`"
CONSOLE_STATS = "SHOW STATS of the console itself"
SHOW_LISTS = "free_clients, free_servers, used_servers in SHOW LISTS"
SOCKETS = "SHOW ACTIVE_SOCKETS"
SET = "`SET` on the console"
WORDS = "the reason of a console error"
SUSPEND = "`SUSPEND`, `SHOW FDS`"
PARAMETERS = "parameters that only 1.26 sends"
LATER = "what 1.25 brought"
NEXT = "what 1.26 changed"
EXTENDED = "drivers that use the extended protocol only, on the console"
REFUSED = "a refused login in the log"
NOT_ALLOWED = "who may not use the console"
ATTEMPTS = "`login attempt` lines"
STARTUP = "startup parameters that cannot be kept"
VALUES = "values of startup parameters"
REPLICATION = "`replication` in the startup packet that is no boolean"
LONG = "names and values longer than 63 bytes"
PROTOCOL = "protocol 3.2 with long cancel keys"
RUBBISH = "what is no message of the login"
CANCELS = "cancel requests in the log"
AUTO = "databases made from `*`"
FAILED = "who could not log in"
LOOKUP = "auth_query knows no such user"
EMPTY = "users with an empty secret"
FINAL = "SCRAM, and then an error"
HBA = "a line of the HBA or ident file that cannot be read"
WARNINGS = "suspicious values"
RELOAD = "a bad file at RELOAD"
ANY = "`auth_type = any`"
STATEMENTS = "an unknown or doubled prepared statement name"
TEMPORARY = "temporary tables in statement mode"
ASSIGNMENTS = "server_assignment_count"
BEGIN = "BEGIN in statement mode"
PAUSED = "query_wait_notify during PAUSE"
BROKEN = "broken messages of a client"

LOGGED = r"(LOG|WARNING|ERROR) "
EVERYWHERE = [
    Known(VERSION, r".*server_version = 1\.\d+\.\d+/bouncer", r".*server_version = 1\.25\.2/bouncer"),
    Known(VERSION, r"row PgBouncer 1\.\d+\.\d+", r"row PgBouncer 1\.25\.2 \(pgferry \S+\)"),
    Known(VERSION, r"LOG process up: PgBouncer .*", r"LOG process up: pgferry .*"),
    Known(VERSION, r"LOG kernel file descriptor limit: .*", r"LOG kernel file descriptor limit: .*"),
    Known(SEVERITY, ours=r"error V FATAL|notice V NOTICE"),
    Known(
        OWN,
        ours=r"row (client_tls_crl_file|dashboard(_trust)?|drain_timeout|http_listen|max_pinned|metrics_path) \|.*",
    ),
    Known(
        OWN, ours=r"row (otlp_\w+|pin_\w+|server_tls_crl_file|server_tls_sslnegotiation|session_state) \|.*"
    ),
    Known(OWN, ours=r"row (statement_text_length|transaction_log_threshold|workers) \|.*"),
    Known(OWN, ours=r"row (harmless_functions|scrub|unknown_state) \|.*"),
    Known(
        OWN,
        ours=r"row (pending_notification|session_\w+|sql_prepared_statement|statement_verdict)_cache \|.*",
    ),
    Known(OWN, ours=r"notice D \t(SHOW STATS_PERCENTILES.*|SHOW CLIENT_STATE id|TAKEOVER name)"),
    Known(LISTS, r"row \w+ \| [\w -]+, [\w, -]+ \|.*", r"row \w+ \| [\w -]+,[\w,-]+ \|.*"),
    Known(NO_VALUE, r"row \w+ \|  \| NULL \| yes", r"row \w+ \| NULL \| NULL \| yes", step="SHOW CONFIG"),
    Known(CONSOLE_STATS, r"row pgbouncer \| 0 \| \d+ \| .*", r"row pgbouncer \| 0 \| \d+ \| .*"),
    Known(CONSOLE_STATS, r"row total_(query|xact)_count \| \d+", r"row total_(query|xact)_count \| \d+"),
    Known(
        ASSIGNMENTS,
        r"row (app|other|forced) \| \d \| 2 \| 2 .*",
        r"row (app|other|forced) \| \d \| 2 \| 2 .*",
        test="sho[w]",
    ),
    Known(ASSIGNMENTS, r"row total_server_assignment_count .*", r"row total_server_assignment_count .*"),
    Known(SHOW_LISTS, r"row (free_|used_)\w+ \| \d+", r"row (free_|used_)\w+ \| \d+"),
    Known(SOCKETS, r"row C \| admin \| pgbouncer \| none \| cl_active .*", step="SHOW ACTIVE_SOCKETS"),
    Known(WARNINGS, ours=r"WARNING DIR/\S+:\d+: .*"),
    Known(AUTO, rf"{LOGGED}C: .* registered new auto-database: .*", r"LOG registered new auto-database: .*"),
]
CONSOLE = [
    Known(SET, ours=r"LOG SET '\w+' command issued"),
    Known(SET, r"error .*", r"(notice|tag) .*", step=r"SET (application_name|extra_float_digits) = .*"),
    Known(SET, ours=r"notice .*", step=r"SET listen_port = 1"),
    Known(SET, r".*", r".*", step=r"SET server_reset_query = 'x{255,256}'.*", test="set"),
    Known(SET, r"row server_reset_query .*", r"row server_reset_query .*", test="set"),
    Known(WORDS, ours=r"error D .*"),
    Known(WORDS, theirs=r"ERROR unknown parameter: .*", step=r"(SET|set) .*"),
    Known(
        WORDS, r"error M client not found", r"error M invalid client pointer supplied", step=r"KILL_CLIENT 9+"
    ),
    Known(WORDS, ours=r"LOG PAUSE command issued", step=r"PAUSE: log \(2\)"),
    Known(EXTENDED, r".*", r".*", test="extended"),
    Known(SUSPEND, r".*", r".*", step=r"(stats: )?(SUSPEND|SHOW FDS)"),
    Known(RELOAD, r"(ERROR|WARNING) .*", r"ERROR .*", step=r"RELOAD with .*: log"),
    Known(RELOAD, theirs=r"WARNING dropping database .*"),
    Known(HBA, r".*", r".*", step=r"RELOAD with .*", test="hba"),
    Known(NOT_ALLOWED, r"(?!row).*", r"(?!row).*", step=r"(app|web) at pgbouncer.*"),
]
LOGINS = [
    Known(REFUSED, r"ERROR C: \S+ (?!pooler error).*", r"LOG C: \S+ login refused: .*"),
    Known(REFUSED, theirs=r"LOG C: \S+ no such user: .*"),
    Known(REFUSED, ours=r"LOG C: \S+ no such user: .*"),
    Known(ATTEMPTS, ours=r"LOG C: \S+ login attempt: .*", test="limits"),
    Known(FINAL, theirs=r"authentication 12"),
    Known(EMPTY, r".*", r".*", step=r"empty, (right|empty) password.*", test="passwords scram-sha-256"),
    Known(EMPTY, ours=r"authentication 11", step=r"md5, .*", test="passwords scram-sha-256"),
    Known(ANY, r".*", r".*", test="passwords any"),
    Known(LOOKUP, r"(?!row).*", r"(?!row).*", step=r"(nobody|expired) at .*", test=r"deployment (cloud|hba)"),
    Known(FAILED, theirs=r"row (shop \| )?(expired|web|report) \|.*", test=r"deployment (cloud|hba)"),
    Known(FAILED, r"row (pools|users) \| \d+", r"row (pools|users) \| \d+", test=r"deployment (cloud|hba)"),
    Known(
        AUTO, r"row databases \| \d+", r"row (databases \| \d+|no_such_database .*)", test="deployment cloud"
    ),
    Known(
        STARTUP,
        r"(error|the end|LOG|WARNING).*",
        r".*",
        step=r"(an unknown one|options, unknown|is_superuser|search_path).*",
    ),
    Known(VALUES, r"parameter .*", r"parameter .*", step="another case|options", test="startup"),
    Known(
        VALUES,
        r".*",
        r"error .*|the end|(LOG|WARNING) .*",
        step=r"a bad (value|encoding)(: log)?",
        test="startup",
    ),
    Known(LONG, r"parameter application_name = x+", r"parameter application_name = x{63}", test="startup"),
    Known(LONG, r".* (db=)?x{63}\b.*", r".*x{63}.*", step=r"a long database.*", test="packets"),
    Known(LONG, theirs=r"LOG C: \S+ login failed: db=app user=x+", test="packets"),
    Known(REPLICATION, r".*", r".*", step="replication rubbish.*", test="startup"),
    Known(PROTOCOL, r"(message v|key of 4).*", r"key of 32 bytes", step=r"protocol 3.*", test="packets"),
    Known(
        RUBBISH,
        r".*",
        r".*",
        step=r"(http|a query (before|instead)|terminate|an empty pass|a password w).*",
        test="packets",
    ),
    Known(RUBBISH, r"TimeoutError", r"error .*|the end", test="sasl"),
    Known(RUBBISH, ours=rf"{LOGGED}C: .* SASL authentication failed.*", test="sasl"),
    Known(CANCELS, theirs=r"LOG C: .* closing because: (failed|bad) cancel request.*", test="packets"),
]
QUERIES = [
    Known(STATEMENTS, r".*", r".*", step=r"after the error|an unknown statement.*|a name twice"),
    # The connection that PgBouncer closed is used on.
    Known(
        STATEMENTS,
        r"closed before|the end",
        r".*",
        step=r"close|portals|close of a portal|flush|an empty text|an error in execute|Sync alone|a function call",
        test=r"queries (transaction|statement)",
    ),
    Known(BEGIN, ours="tag BEGIN", step="transaction: BEGIN", test="queries statement"),
    Known(TEMPORARY, r"tag .*", r"error .*", step=r"CREATE TEMP TABLE .*", test="queries statement"),
    Known(PAUSED, ours=r"notice .*", step="paused too long", test="waiting"),
    Known(BROKEN, r"error .*|ready I", r"error .*|the end", step=r"a torn \w+|a (Describe|Close) of nothing"),
]
VERSIONS = [
    Known(PARAMETERS, theirs=r"(parameter )?pgbouncer\.\w+ = .*", only="1.26"),
    Known(
        PARAMETERS, theirs=r"parameter application_name = .*", step=r".*(console|at pgbouncer).*", only="1.26"
    ),
    Known(PARAMETERS, r"row C \| admin \| pgbouncer .*", r"row C \| admin \| pgbouncer .*", only="1.26"),
    Known(NEXT, ours=r"row suspended \| no", only="1.26"),
    Known(NEXT, ours=r"row suspend_timeout \|.*", only="1.26"),
    Known(NEXT, r"row track_extra_parameters \|.*", r"row track_extra_parameters \|.*", only="1.26"),
    Known(NEXT, r".*already paused", r".*already suspended/paused", only="1.26"),
    Known(NEXT, r".*pooler is not paused", r".*pooler is not paused/suspended", only="1.26"),
    Known(NEXT, r".*", r".*", step=r"search_path.*", test="startup", only="1.26"),
    Known(NEXT, r"row forcedb .*", r"row forcedb .*", test="deployment legacy", only="1.26"),
    Known(
        LATER,
        ours=r"row (auth_ldap_options|\w+_tls13_ciphers|login_notify_message|pool_idle_timeout) \|.*",
        only="1.24",
    ),
    Known(LATER, ours=r"row (query_wait_notify|scram_iterations|transaction_timeout) \|.*", only="1.24"),
    Known(
        LATER, r"row server_check_query \| select 1 .*", r"row server_check_query \| <empty> .*", only="1.24"
    ),
    Known(LATER, ours=r"row server_check_query \| select 1 \| <empty> .*", only="1.24"),
    Known(
        LATER, r".*", r".*", step=r"KILL(: log)?( \(2\))?|ENABLE pgbouncer.*", test="commands", only="1.24"
    ),
    Known(LATER, r"notice D \t(SHOW|KILL|SUSPEND).*", r"notice D \t(SHOW|KILL).*", only="1.24"),
    Known(
        LATER,
        r".*",
        r".*",
        step=r"(no terminator|bytes behind|a name without).*",
        test="packets",
        only="1.24",
    ),
    Known(LATER, r"tag RELOAD", r"error .*", step="RELOAD with .*", test="set", only="1.24"),
    Known(LATER, r"row C .*", r"row C .*", step="clients", test="effects", only="1.24"),
    Known(LATER, r"parameter (application_name|default_transaction_read_only) = .*", only="1.24"),
    # A forced user and SCRAM: its clients wait, and the first one's error goes to the others.
    Known(
        LATER, r".*", r".*", step=r".* at bi .*|SHOW (DATABASES|POOLS)", test="deployment hba", only="1.24"
    ),
    Known(LATER, r"(column|row) .*", r"(column|row) .*", step=r"(?i)SHOW (STATS\w*|TOTALS);?", only="1.24"),
    Known(
        LATER, r"row .*", r"row .*", step=r"(?i)(stats: )?SHOW (USERS|CLIENTS|ACTIVE_SOCKETS);?", only="1.24"
    ),
]
KNOWN = [*EVERYWHERE, *CONSOLE, *LOGINS, *QUERIES, *VERSIONS]
