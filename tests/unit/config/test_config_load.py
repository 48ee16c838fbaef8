"""load(): entries, limits, refusals, reload, SET, secrets kept out of messages."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pgferry.config import Config, ConfigError, keep_start_settings, load, with_overrides
from pgferry.config.settings import DATABASE, GLOBAL, USER, Setting
from unit.config.config_files import MINIMAL, Loader

HIDDEN = "hunter2hunter2"


def test_a_plain_deployment(ini: Loader) -> None:
    config = ini.load(
        "[databases]\n"
        "shop = host=db1,db2 port=6543 dbname=shop_prod user=app password='it''s' pool_size=5 "
        "reserve_pool=2\nold = pool_mode=SESSION max_db_connections=0 server_lifetime=0 "
        "query_wait_timeout=0 min_pool_size=-1\nlocal = host=/run/postgresql\nabstract = host=@pg\nsix = "
        "host=fe80::1,::1\n* = host=fallback\n[pgbouncer]\nlisten_addr = 127.0.0.1, ::1\nauth_file = "
        "{users}\nadmin_users = root,app\npool_mode = Transaction\nunix_socket_mode = "
        "0770\nserver_idle_timeout = 1.5\nworkers = 2\nserver_check_query =\n[users]\napp = pool_size=3 "
        "client_idle_timeout=7 query_timeout=0\n"
    )
    shop = config.databases["shop"]
    assert (shop.hosts, shop.port, shop.dbname, shop.user) == (("db1", "db2"), 6543, "shop_prod", "app")
    assert (shop.password, shop.pool_size, shop.reserve_pool_size) == ("it's", 5, 2)
    old = config.databases["old"]
    assert (old.pool_mode, old.max_db_connections, old.server_lifetime) == ("session", None, None)
    assert (old.query_wait_timeout, old.min_pool_size, old.hosts, old.port) == (0.0, None, (), 5432)
    assert config.databases["six"].hosts == ("fe80::1", "::1")
    settings = config.settings
    assert (settings.listen_addr, settings.admin_users) == (("127.0.0.1", "::1"), ("root", "app"))
    assert (settings.pool_mode, settings.unix_socket_mode, settings.workers) == ("transaction", 0o770, 2)
    assert (settings.server_idle_timeout, settings.server_check_query) == (1.5, "")
    assert settings.conffile == str(ini.path)
    app = config.users["app"]
    assert (app.secret, app.pool_size, app.client_idle_timeout, app.query_timeout) == ("secret", 3, 7.0, None)
    assert not config.warnings


def test_the_template_makes_databases(ini: Loader) -> None:
    config = ini.main("[databases]", "* = host=h port=1", "own = host=o")
    assert "*" not in config.databases
    made = config.database("new")
    assert made is not None
    assert (made.name, made.dbname, made.hosts) == ("new", "new", ("h",))
    own = config.database("own")
    assert own is not None
    assert own.hosts == ("o",)
    assert ini.main("[databases]", "* = dbname=one").database("x").dbname == "one"  # type: ignore[union-attr]
    assert ini.main("[databases]").database("x") is None


def test_the_configuration_can_be_sent_to_workers(ini: Loader) -> None:
    config = ini.main(
        "max_client_conn=5", "max_client_conn=6", "[databases]", "a = host=h", "* =", "[users]", "u ="
    )
    packed = msgspec.msgpack.encode(msgspec.to_builtins(config))
    assert msgspec.convert(msgspec.msgpack.decode(packed), Config) == config


@pytest.mark.parametrize("name", ["pgbouncer", "pgferry", "x" * 64, "ü" * 32])
def test_names_that_are_refused(ini: Loader, name: str) -> None:
    problem = ini.problem(MINIMAL + f"[databases]\n'{name}' = host=h\n")
    assert problem.line == 4


def test_longest_name(ini: Loader) -> None:
    assert list(ini.main("[databases]", "x" * 63 + " =").databases) == ["x" * 63]


@pytest.mark.parametrize(
    ("pairs", "key"),
    [
        ("port=0", "port"),
        ("port=65536", "port"),
        ("port=abc", "port"),
        ("pool_size=abc", "pool_size"),
        ("pool_mode=fast", "pool_mode"),
        ("load_balance_hosts=random", "load_balance_hosts"),
        ("session_state=drop", "session_state"),
        ("max_pinned=few", "max_pinned"),
        ("pin_timeout=soon", "pin_timeout"),
        ("host=[::1]", "host"),
        ("host=db:5432", "host"),
        ("host='a b'", "host"),
        ("host=','", "host"),
        (f"host=/{'d' * 100}", "host"),
    ],
)
def test_bad_values_of_databases(ini: Loader, pairs: str, key: str) -> None:
    problem = ini.problem(MINIMAL + f"[databases]\nshop = {pairs}\n")
    assert (problem.file, problem.line, problem.setting) == (str(ini.path), 4, f"databases.shop.{key}")
    assert problem.expected


def test_session_state_and_pins(ini: Loader) -> None:
    config = ini.load(
        MINIMAL + "session_state = REFUSE\nmax_pinned = 0x10\npin_timeout = 2.5\npin_log_threshold = 0\n"
        "[databases]\nshop = session_state=Ignore max_pinned=0 pin_timeout=9\nplain = max_pinned=-1\n"
        "[users]\napp = session_state=track\n"
    )
    settings, shop, plain = config.settings, config.databases["shop"], config.databases["plain"]
    assert (settings.session_state, settings.max_pinned) == ("refuse", 16)
    assert (settings.pin_timeout, settings.pin_log_threshold) == (2.5, 0.0)
    assert (shop.session_state, shop.max_pinned, shop.pin_timeout) == ("ignore", 0, 9.0)
    assert (plain.session_state, plain.max_pinned, plain.pin_timeout) == (None, None, None)
    assert config.users["app"].session_state == "track"
    assert shop.same_servers(plain.__class__(name="shop", dbname="shop"))
    problem = ini.problem(MINIMAL + "session_state = tracks\n")
    assert (problem.setting, problem.nearest) == ("session_state", "track")


def test_unknown_key_is_suggested(ini: Loader) -> None:
    problem = ini.problem(MINIMAL + "[databases]\nshop = hots=h\n")
    assert str(problem) == f"{ini.path}:4: databases.shop: unknown parameter hots (did you mean host?)"


def test_rubbish_behind_a_number_warns(ini: Loader) -> None:
    config = ini.main("[databases]", "shop = pool_size=5,")
    assert config.databases["shop"].pool_size == 5
    assert [warning.setting for warning in config.warnings] == ["databases.shop.pool_size"]


def other_value(setting: Setting) -> str:
    if setting.kind.choices:
        return setting.pending_values[0]
    return {"integer": "3", "seconds": "3", "text": "x"}[setting.kind.name]


@pytest.mark.parametrize(
    "setting", [s for s in GLOBAL if s.pending or s.pending_values], ids=lambda setting: setting.name
)
def test_settings_without_effect_are_refused_by_name(ini: Loader, setting: Setting) -> None:
    problem = ini.problem(MINIMAL + f"{setting.name} = {other_value(setting)}\n")
    assert problem.setting == setting.name
    assert problem.message.startswith(f"setting {setting.name}")
    assert "has no effect in this version of pgferry yet" in problem.message
    if setting.default is not None:
        assert ini.main(f"{setting.name} = {setting.default}").settings == ini.main().settings


def test_which_settings_have_no_effect_yet() -> None:
    pending = {setting.name for setting in GLOBAL if not setting.effective}
    assert {name for name in pending if "_tls" not in name} == {"suspend_timeout"}
    assert all(setting.effective for setting in (*DATABASE, *USER))


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer"])
def test_optional_server_tls_is_a_plain_connection(ini: Loader, mode: str) -> None:
    assert ini.main(f"server_tls_sslmode = {mode}").settings.server_tls_sslmode == mode


@pytest.mark.parametrize(
    ("line", "setting"),
    [
        ("auth_dbname = pgbouncer", "auth_dbname"),
        ("auth_dbname = pgferry", "auth_dbname"),
        ("[databases]\nshop = auth_dbname=pgbouncer", "databases.shop"),
    ],
)
def test_the_console_is_no_auth_dbname(ini: Loader, line: str, setting: str) -> None:
    problem = ini.problem(MINIMAL + line + "\n")
    assert problem.setting == setting
    assert problem.line
    assert "console" in problem.message


def test_peers(ini: Loader) -> None:
    peers = ini.load(MINIMAL + "[peers]\n1 = host=/tmp\n300 = host=b port=5 pool_size=7\n").peers
    assert [(p.id, p.host, p.port, p.pool_size) for p in peers.values()] == [
        (1, "/tmp", 6432, None),
        (300, "b", 5, 7),
    ]
    assert "no peer id" in ini.problem(MINIMAL + "[peers]\none = host=/tmp\n").message
    assert "missing" in ini.problem(MINIMAL + "[peers]\n1 = port=5\n").message
    assert "blank" in ini.problem(MINIMAL + "[peers]\n1 = host='a b'\n").message
    assert ini.main("[peers]").peers == {}


@pytest.mark.parametrize(
    ("line", "setting"),
    [
        ("job_name = x", "job_name"),
        ("syslog_facility = kitchen", "syslog_facility"),
        ("unix_socket_mode = 777", "unix_socket_mode"),
        ("admin_users = root app", "admin_users"),
    ],
)
def test_what_is_accepted_with_a_warning(ini: Loader, line: str, setting: str) -> None:
    (warning,) = ini.main(line).warnings
    assert (warning.setting, warning.line) == (setting, 3)


def test_nowhere_to_listen(ini: Loader) -> None:
    assert "listen nowhere" in ini.problem(MINIMAL + "unix_socket_dir =\n").message
    assert ini.main("unix_socket_dir =", "listen_addr = *").settings.unix_socket_dir == ""
    assert "too long" in ini.problem(MINIMAL + f"unix_socket_dir = /{'d' * 100}\n").message


def test_no_auth_file_warns(ini: Loader) -> None:
    (warning,) = ini.load("[pgbouncer]\n").warnings
    assert warning.setting == "auth_file"
    assert not ini.load("[pgbouncer]\nauth_type = any\n").warnings


@pytest.mark.parametrize(
    ("main", "entry", "word"),
    [
        ("", "a = password=x", "password"),
        ("auth_type = any\n", "a = host=h", "auth_type = any"),
        ("auth_type = any\n", "* = host=h", "auth_type = any"),
        ("unix_socket_dir =\nlisten_addr = *\n", "a =", "/tmp"),
    ],
)
def test_databases_that_warn(ini: Loader, main: str, entry: str, word: str) -> None:
    text = f"{MINIMAL}{main}[databases]\n{entry}\n"
    (warning,) = ini.load(text).warnings
    assert warning.line == text.count("\n")
    assert warning.setting == f"databases.{entry[0]}"
    assert word in warning.message


def test_a_bad_reload_raises_and_leaves_the_old_configuration(ini: Loader) -> None:
    old = ini.main("max_client_conn = 20", "[databases]", "a = host=h")
    before = msgspec.msgpack.encode(old)
    with pytest.raises(ConfigError):
        ini.load("[pgbouncer]\nmax_client_conn = 30\nbogus = 1\n", previous=old)
    assert msgspec.msgpack.encode(old) == before


def test_null_defaults_come_back_when_the_line_is_gone(ini: Loader) -> None:
    old = ini.main("verbose = 2")
    new = ini.load("[pgbouncer]\n", previous=old)
    assert (new.settings.verbose, new.settings.auth_file, new.users) == (0, None, {})


def test_start_settings_keep_their_value_at_reload(ini: Loader) -> None:
    old = ini.main("listen_port = 7000", "workers = 2")
    new = ini.load(MINIMAL + "listen_port = 7001\nworkers = 2\nmax_client_conn = 9\n", previous=old)
    assert (new.settings.listen_port, new.settings.workers, new.settings.max_client_conn) == (7000, 2, 9)
    (warning,) = new.warnings
    assert (warning.setting, warning.line) == ("listen_port", 3)
    assert keep_start_settings(old.settings, old.settings) == (old.settings, [])


def test_overrides_come_last(ini: Loader) -> None:
    text = MINIMAL + "max_client_conn = 5\nlisten_port = 7000\n"
    config = ini.load(text, overrides={"max_client_conn": "6", "listen_port": "1"})
    assert (config.settings.max_client_conn, config.settings.listen_port) == (6, 7000)
    for overrides in (
        {"bogus": "1"},
        {"max_client_conn": "x"},
        {"listen_port": "x"},
        {"suspend_timeout": "1"},
    ):
        with pytest.raises(ConfigError) as caught:
            ini.load(text, overrides=overrides)
        assert caught.value.problems[0].setting in overrides


def test_set_without_reading_the_file_again(ini: Loader) -> None:
    config = ini.main("listen_port = 7000")
    ini.path.unlink()
    changed = with_overrides(config, {"pool_mode": "statement", "listen_port": "1", "logfile": ""})
    assert (changed.settings.pool_mode, changed.settings.listen_port) == ("statement", 7000)
    assert config.settings.pool_mode == "session"
    with pytest.raises(ConfigError):
        with_overrides(config, {"pool_mode": "x"})


def test_set_of_another_auth_file(ini: Loader, tmp_path: Path) -> None:
    config = ini.main("[users]", "app = pool_size=1")
    other = tmp_path / "other.txt"
    other.write_text('"zoe" "z"\n')
    changed = with_overrides(config, {"auth_file": str(other)})
    assert {name: user.secret for name, user in changed.users.items()} == {"zoe": "z", "app": None}
    assert changed.users["app"].pool_size == 1


def test_database_changes_that_replace_servers(ini: Loader) -> None:
    def entry(pairs: str) -> object:
        return ini.main("[databases]", f"a = host=h {pairs}").databases["a"]

    plain = entry("")
    assert plain.same_servers(entry("pool_size=3 password=x"))  # type: ignore[attr-defined]
    for pairs in (
        "port=1",
        "dbname=x",
        "user=x",
        "connect_query=x",
        "load_balance_hosts=disable",
        "timezone=UTC",
    ):
        assert not plain.same_servers(entry(pairs))  # type: ignore[attr-defined]


def test_secrets_are_not_in_reprs(ini: Loader) -> None:
    ini.users.write_text(f'"app" "{HIDDEN}"\n')
    config = ini.main("[databases]", f"a = user=u password={HIDDEN}", f"* = user=u password={HIDDEN}")
    assert config.databases["a"].password == config.users["app"].secret == HIDDEN
    assert HIDDEN not in repr(config)
    assert "password=<hidden>" in repr(config.autodb)
    assert "secret=<hidden>" in repr(config.users)


@pytest.mark.parametrize(
    "pairs",
    [
        f"password={HIDDEN} pool_size=x",
        f"password=my {HIDDEN}",
        f"password=my {HIDDEN}=1",
        f"password='{HIDDEN}",
        f"password={HIDDEN}\tport=1",
        f"password='{HIDDEN}'x",
        f"pasword={HIDDEN}",
        f"pool_size= password={HIDDEN}",
        f"user=u password = {HIDDEN} = 3",
        f"port = '{HIDDEN} {HIDDEN}'",
    ],
)
def test_secrets_are_not_in_messages(ini: Loader, pairs: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ini.load(MINIMAL + f"[databases]\na = {pairs}\n")
    assert HIDDEN not in str(caught.value)
    assert HIDDEN not in repr(caught.value.problems)


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(rest=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30))
def test_no_message_repeats_a_password(ini: Loader, rest: str) -> None:
    ini.users.write_text(f'"app" "{HIDDEN}{rest}\n"x" {HIDDEN}\n')
    ini.write(MINIMAL + f"[databases]\na = host=h password={HIDDEN} {rest}\nb = password='{HIDDEN}{rest}\n")
    try:
        config = load(str(ini.path))
    except ConfigError as err:
        assert HIDDEN not in str(err)
    else:
        assert HIDDEN not in repr(config)
