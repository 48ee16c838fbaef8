"""A configuration from a URL."""

from __future__ import annotations

import getpass

import pytest

from pgferry.config import ConfigError, from_url

HIDDEN = "hunter2hunter2"


def test_everything_in_the_url() -> None:
    url = "postgresql://me:p%40ss%2Fw@db.example:5433/my%20shop?application_name=a&connect_timeout=3&sslmode=disable"
    config = from_url(url, overrides={"listen_port": "7000", "default_pool_size": "3"})
    shop = config.databases["my shop"]
    assert (shop.dbname, shop.hosts, shop.port, shop.user) == ("my shop", ("db.example",), 5433, None)
    assert shop.application_name == "a"
    settings = config.settings
    assert (settings.listen_addr, settings.listen_port, settings.default_pool_size) == (
        ("127.0.0.1",),
        7000,
        3,
    )
    assert (settings.pool_mode, settings.auth_type) == ("transaction", "scram-sha-256")
    assert (settings.server_connect_timeout, settings.server_tls_sslmode) == (3.0, "disable")
    assert settings.admin_users == ("me",)
    assert config.users["me"].secret == "p@ss/w"
    other = config.database("other")
    assert other is not None
    assert (other.dbname, other.hosts, other.port) == ("other", ("db.example",), 5433)
    assert "p@ss" not in repr(config)


def test_little_in_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "someone")
    config = from_url("postgres://")
    (database,) = config.databases.values()
    assert (database.name, database.port, database.hosts[0][0]) == ("someone", 5432, "/")
    assert config.settings.auth_type == "trust"
    assert config.users["someone"].secret == ""
    assert from_url("postgresql:///shop").databases["shop"].name == "shop"


@pytest.mark.parametrize(
    ("url", "hosts", "port"),
    [
        ("postgresql://u@[::1]:6000/d", ("::1",), 6000),
        ("postgresql://u@[fe80::1]/d", ("fe80::1",), 5432),
        ("postgresql://u@%2Frun%2Fpg/d", ("/run/pg",), 5432),
        ("postgresql://u@/d?host=/run/pg&port=6000", ("/run/pg",), 6000),
        ("postgresql://u@a,b/d", ("a", "b"), 5432),
        ("postgresql://u@a:1,b:1/d", ("a", "b"), 1),
        ("postgresql://h?user=u&dbname=d&password=x", ("h",), 5432),
    ],
)
def test_hosts(url: str, hosts: tuple[str, ...], port: int) -> None:
    database = from_url(url).databases["d"]
    assert (database.hosts, database.port) == (hosts, port)


@pytest.mark.parametrize(
    ("url", "setting"),
    [
        ("", ""),
        ("mysql://h/d", ""),
        (f"u:{HIDDEN}@h/d", ""),
        ("postgresql://u@h:0/d", "port"),
        ("postgresql://u@h:70000/d", "port"),
        ("postgresql://u@h:x/d", "host"),
        ("postgresql://u@a:1,b:2/d", "port"),
        ("postgresql://u@[::1/d", "host"),
        ("postgresql://u@a,/d", "host"),
        ("postgresql://u@h/pgbouncer", "dbname"),
        (f"postgresql://u@h/{'d' * 64}", "dbname"),
        (f"postgresql://{'u' * 128}@h/d", "user"),
        ("postgresql://u@h/d%zz", "dbname"),
        ("postgresql://u@h/d%ff", "dbname"),
        ("postgresql://u@h/d%00", "dbname"),
        ("postgresql://u@h/d?ssl=1", ""),
        ("postgresql://u@h/d?port", "port"),
        ("postgresql://u@h/d?sslmode=maybe", "sslmode"),
        ("postgresql://u@h/d?connect_timeout=soon", "connect_timeout"),
        (f"postgresql://u:x@{HIDDEN}@h/d", ""),
        (f"postgresql://u:12/{HIDDEN}@h/d", ""),
        (f"postgresql://u:x/{HIDDEN}@h/d", ""),
        (f"postgresql://u:x?{HIDDEN}@h/d", "host"),
        (f"postgresql://u:%zz{HIDDEN}@h/d", "password"),
    ],
)
def test_bad_urls(url: str, setting: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_url(url)
    (problem,) = caught.value.problems
    assert (problem.file, problem.setting) == ("URL", setting)
    assert HIDDEN not in str(problem)


def test_unknown_parameters_are_suggested_and_bad_overrides_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        from_url("postgresql://u@h/d?aplication_name=x")
    assert caught.value.problems[0].nearest == "application_name"
    for overrides in ({"bogus": "1"}, {"workers": "none"}):
        with pytest.raises(ConfigError):
            from_url("postgresql://u@h/d", overrides=overrides)


def test_no_user_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("uid")

    monkeypatch.setattr(getpass, "getuser", nobody)
    with pytest.raises(ConfigError, match="names no user"):
        from_url("postgresql://h/d")
