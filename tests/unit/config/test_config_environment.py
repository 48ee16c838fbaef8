"""Settings and the URL from environment variables."""

import pytest

from pgferry.config import environment, from_url


def test_every_setting_has_a_variable() -> None:
    names = environment.variables()
    assert names["POOL_MODE"] == "pool_mode"
    assert names["MAX_CLIENT_CONN"] == "max_client_conn"
    assert not {"USER", "CONFFILE", "PATH", "HOME"} & set(names)


def test_settings() -> None:
    environ = {"POOL_MODE": "session", "DEFAULT_POOL_SIZE": "7", "AUTH_TYPE": "", "USER": "me", "HOME": "/"}
    found = environment.overrides(environ)
    assert found == {"pool_mode": "session", "default_pool_size": "7"}
    config = from_url("postgresql://me:x@h/db", overrides=found)
    assert (config.settings.pool_mode, config.settings.default_pool_size) == ("session", 7)


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, ""),
        ({"DB_USER": "me"}, ""),
        ({"DATABASE_URL": "postgresql://a/b", "DB_HOST": "c"}, "postgresql://a/b"),
        ({"DB_HOST": "db"}, "postgresql://db/"),
        (
            {"DB_HOST": "db", "DB_PORT": "5433", "DB_USER": "m e", "DB_PASSWORD": "a/b@c", "DB_NAME": "x"},
            "postgresql://m%20e:a%2Fb%40c@db:5433/x",
        ),
        ({"DB_HOST": "::1", "DB_USER": "me", "DB_NAME": "x"}, "postgresql://me@[::1]/x"),
    ],
)
def test_the_url(environ: dict[str, str], url: str) -> None:
    assert environment.url(environ) == url


def test_the_parts_arrive_as_they_were() -> None:
    parts = {
        "DB_HOST": "db.example",
        "DB_PORT": "5433",
        "DB_USER": "m:e",
        "DB_PASSWORD": "ü/b@c?#",
        "DB_NAME": "a b",
    }
    config = from_url(environment.url(parts))
    assert config.users["m:e"].secret == "ü/b@c?#"
    database = config.databases["a b"]
    assert (database.hosts, database.port) == (("db.example",), 5433)
