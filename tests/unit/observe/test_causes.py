"""Who is behind refused and too many logins."""

from pgferry.observe import causes


def row(application: str, database: str = "shop", count: int = 1) -> dict[str, object]:
    return {"application_name": application, "database": database, "user": "web", "count": count}


def test_who_has_the_most_clients() -> None:
    clients = [row("api"), row("greedy", count=2), row("psql", "pgbouncer", 9), row("")]
    assert causes.most_clients(clients) == ("greedy (shop/web)", 2, 4)
    assert causes.most_clients([row("")])[0] == "clients without application_name (shop/web)"
    assert causes.most_clients([]) == ("nobody", 0, 0)


def test_storms_are_logins_without_work() -> None:
    before = {"shop": (1000, 50), "busy": (0, 0)}
    now = {"shop": (1150, 60), "busy": (200, 5000), "new": (150, 0), "calm": (3, 0)}
    assert causes.storms(now, before) == {"shop": 150, "new": 150}
    assert causes.storms(now, now) == {}


def test_the_console_is_no_database() -> None:
    totals = {name: {"client_login_count": 5, "xact_count": 9} for name in ("shop", "pgbouncer")}
    assert causes.logins(totals) == {"shop": (5, 9)}


def test_reasons_for_which_there_is_no_room() -> None:
    assert causes.is_client_limit("no more connections allowed (max_client_conn)")
    assert causes.is_client_limit("client connections exceeded (max_user_client_connections)")
    assert not causes.is_client_limit("no such database")
