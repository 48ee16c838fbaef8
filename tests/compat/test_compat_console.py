"""Every console command, right and wrong, at PgBouncer's console and at pgferry's."""

from compat.conftest import Compare
from compat.twins import INI, deployment, without_wildcard
from compat.witness import Witness, port_of
from support.wire import bind, describe, execute, message, parse, sync

SHOWS = (
    "CLIENTS", "SERVERS", "SOCKETS", "ACTIVE_SOCKETS", "POOLS", "PEER_POOLS", "PEERS", "DATABASES", "USERS", "LISTS",
    "STATS", "STATS_TOTALS", "STATS_AVERAGES", "TOTALS", "CONFIG", "MEM", "DNS_HOSTS", "DNS_ZONES", "STATE", "VERSION",
    "HELP",
)  # fmt: skip
WRONG = (
    "", ";", " ", "FOO", "SHOW", "SHOW FOO", "SHOW POOLS extra", 'SHOW "pools"', "SHOW 'pools'", "SHOW;",
    "SHOW POOLS; SHOW LISTS", "SHOW POOLS;;", "-- SHOW POOLS", "/* x */ SHOW POOLS", "SELECT", "SELECT 1",
    "SELECT version()", "BEGIN", "COMMIT", "RELOAD x", "RELOAD 1", "PAUSE a b", "KILL_CLIENT", "SHOW pool$s",
    "SHUTDOWN now", "SHUTDOWN WAIT_FOR_NOBODY", f"SHOW {'x' * 70}", f"{'X' * 20}", "x" * 300,
)  # fmt: skip
FAKED = (
    "SHOW client_encoding", "SHOW default_transaction_isolation", "SHOW standard_conforming_strings",
    "SHOW datestyle", "SHOW timezone", "SHOW TimeZone", "SET client_encoding = 'UTF8'", "SET datestyle TO ISO",
    "SET timezone='UTC'", "SET default_transaction_isolation = 'serializable'", "SET extra_float_digits = 3",
    "SET application_name = 'x'", "SELECT pools", "select version",
)  # fmt: skip
SETS = (
    "SET", "SET default_pool_size", "SET default_pool_size =", "SET default_pool_size = 25",
    "SET default_pool_size=26", "SET default_pool_size TO 27", "SET default_pool_size = '28'",
    "SET default_pool_size = 'x'", "SET default_pool_size = 28 29", "SET foo = 1", "SET pool_mode = bad",
    "SET pool_mode = Transaction", "SET query_timeout = -1", "SET query_timeout = 1.5", "SET query_timeout = 0",
    "SET log_connections = yes", "SET log_connections = 1", "SET listen_port = 1", "SET max_client_conn = 0x20",
    "SET server_reset_query = 'SELECT ''x'''", "SET server_reset_query = ''", "SET verbose = 1", "SET verbose = 0",
    "SET ignore_startup_parameters = 'a, b'", "SET default_pool_size = 21;", "set DEFAULT_POOL_SIZE = 1",
    f"SET server_reset_query = '{'x' * 255}'", f"SET server_reset_query = '{'x' * 256}'",
    "SET server_reset_query = 'unfinished",
)  # fmt: skip
TARGETS = ("", " nodb", " pgbouncer", " app", ' "app"', ' "no""db"', " APP")


def test_show(compare: Compare) -> None:
    def scenario(witness: Witness) -> None:
        clients = [
            witness.open("app", "app", "app secret", application_name="one"),
            witness.open("app", "other", "app secret"),
            witness.open("web", "forced", "web secret"),
        ]
        for wire in clients:
            witness.ask(wire, "a query", "SELECT 1", "SELECT 2")
        with witness.open("admin", "pgbouncer", "admin secret") as console:
            witness.note("greeting", [f"{k} = {v}" for k, v in console.parameters.items()])
            for what in SHOWS:
                witness.console(console, f"SHOW {what}")
            witness.console(console, *FAKED, *WRONG)
        with witness.open("stats", "pgbouncer", "stats secret") as console:
            for what in ("POOLS", "CLIENTS", "CONFIG", "USERS"):
                witness.ask(console, f"stats: SHOW {what}", f"show {what.lower()};")
            for verb in (
                "PAUSE",
                "RESUME",
                "DISABLE app",
                "ENABLE app",
                "RECONNECT",
                "KILL app",
                "KILL_CLIENT 1",
            ):
                witness.ask(console, f"stats: {verb}", verb)
            for verb in ("RELOAD", "SUSPEND", "WAIT_CLOSE", "SHUTDOWN", "SET query_timeout = 1", "SHOW FDS"):
                witness.ask(console, f"stats: {verb}", verb)
            witness.ask(console, "stats: SET of a faked one", "SET timezone = 'UTC'")
        for wire in clients:
            wire.close()

    compare("show", deployment("console"), scenario)


def test_set_and_reload(compare: Compare) -> None:
    files = deployment("console")

    def scenario(witness: Witness) -> None:
        with witness.open("admin", "pgbouncer", "admin secret") as console:
            for command in SETS:
                witness.console(console, command, log=True)
            witness.console(console, "SHOW CONFIG")
            witness.console(console, "RELOAD", log=True)
            witness.ask(console, "CONFIG after RELOAD", "SHOW CONFIG")
            for name, bad in BAD_FILES.items():
                witness.twin.files[INI] = files[INI].replace("default_pool_size = 20", bad)
                witness.twin.write()
                witness.ask(console, f"RELOAD with {name}", "RELOAD", log=True)
            witness.twin.files[INI] = files[INI].replace("gone = ", "; gone = ").replace("= 20", "= 22")
            witness.twin.write()
            witness.ask(console, "RELOAD with other databases", "RELOAD", log=True)
            witness.ask(console, "DATABASES then", "SHOW DATABASES")

    compare("set", files, scenario)


BAD_FILES = {
    "an unknown setting": "no_such_setting = 1",
    "a bad value": "default_pool_size = many",
    "a bad line": "default_pool_size",
    "a comment behind a value": "default_pool_size = 20 ; twenty",
    "an unknown section": "[nothing]\nx = 1",
}


def test_commands(compare: Compare) -> None:
    def scenario(witness: Witness) -> None:
        with witness.open("admin", "pgbouncer", "admin secret") as console:
            for verb in ("RECONNECT", "WAIT_CLOSE", "DISABLE", "ENABLE"):
                for target in TARGETS:
                    witness.console(console, verb + target, log=True)
            for first, second in (("PAUSE", "RESUME"), ("KILL", "RESUME")):
                for target in TARGETS:
                    witness.console(console, first + target, first + target, log=True)
                    witness.ask(console, f"STATE after {first}{target}", "SHOW STATE")
                    witness.console(console, second + target, second + target, log=True)
                    for left in ("app", "other"):
                        console.query(f"RESUME {left}")
                    console.query("RESUME")
                    witness.skip_log()
            witness.ask(console, "DATABASES at the end", "SHOW DATABASES")
            for client in ("1", "99999", "0", "abc", "-1", "1 2", "99999999999999999999"):
                witness.console(console, f"KILL_CLIENT {client}")

    compare("commands", without_wildcard(deployment("console")), scenario)


def test_effects(compare: Compare) -> None:
    """What clients notice of PAUSE, DISABLE, KILL, RECONNECT and SHUTDOWN."""

    def scenario(witness: Witness) -> None:
        console = witness.open("admin", "pgbouncer", "admin secret")
        wire = witness.open("app", "app", "app secret")
        witness.ask(wire, "before", "SELECT 1")
        witness.console(console, "DISABLE app")
        witness.login("login while disabled", "app", "app", "app secret")
        witness.ask(wire, "connected while disabled", "SELECT 1")
        witness.console(console, "ENABLE app", "PAUSE app")
        wire.send(message(b"Q", b"SELECT 2\0"))
        witness.note("silent while paused", [str(wire.silent())])
        witness.ask(console, "POOLS while paused", "SHOW POOLS")
        witness.console(console, "RESUME app")
        witness.note("answered after RESUME", [m.type for m in wire.until()])
        witness.console(console, "RECONNECT app", "WAIT_CLOSE app")
        witness.ask(wire, "after RECONNECT", "SELECT 1")
        witness.console(console, "KILL app")
        witness.send(wire, "killed")
        witness.note_client("killed: log", port_of(wire))
        witness.console(console, "RESUME app")
        with witness.open("app", "app", "app secret") as other:
            witness.ask(console, "clients", "SHOW CLIENTS")
            [client] = [row for row in console.rows("SHOW CLIENTS") if row[2] == b"app"]
            witness.ask(console, "KILL_CLIENT", f"KILL_CLIENT {(client[-1] or b'').decode()}")
            witness.send(other, "client killed")
            witness.note_client("client killed: log", port_of(other))
        last = witness.open("app", "app", "app secret")
        witness.ask(last, "a query at the end", "SELECT 1")
        witness.twin.expect_end()
        witness.console(console, "SHUTDOWN WAIT_FOR_CLIENTS")
        witness.ask(last, "while it shuts down", "SELECT 1")
        console.close()
        last.close()
        witness.note("exit status", [str(witness.twin.wait())])

    compare("effects", deployment("console"), scenario)


def test_extended_protocol(compare: Compare) -> None:
    def scenario(witness: Witness) -> None:
        for name, packets in {
            "Parse": [parse("SHOW POOLS"), sync()],
            "a whole query": [parse("SHOW VERSION"), bind(), describe(kind="P"), execute(), sync()],
            "CopyData": [message(b"d", b"x")],
            "FunctionCall": [message(b"F", bytes(12))],
            "an unknown message": [message(b"~")],
            "Sync alone": [sync()],
        }.items():
            with witness.open("admin", "pgbouncer", "admin secret", timeout=1.0) as console:
                witness.send(console, name, *packets)

    compare("extended", deployment("console"), scenario)
