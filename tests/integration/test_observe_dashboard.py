"""The dashboard's interface: who may see and do what, and that the figures are there."""

import http.client
import json
import socket
from collections.abc import Callable

import pytest

from support.pooler import eventually
from support.web import Browser, Web

MakeWeb = Callable[..., Web]
SECRETS = {"postgres": "", "admin": "swordfish", "stats": "look", "app": "app"}


@pytest.fixture
def web(make_web: MakeWeb) -> Web:
    return make_web({"auth_type": "scram-sha-256"}, userlist={**SECRETS, "postgres": "postgres"})


def first_sample(browser: Browser) -> dict:
    """What the page shows first, as soon as there is a sample."""
    eventually(lambda: "total" in browser.get("/api/now"))
    return browser.get("/api/now")


# --- who


def test_the_page_needs_no_login_and_no_other_site(web: Web) -> None:
    for path in ("/", "/style.css", "/app.js", "/charts.js", "/icon.svg"):
        status, text, headers = web.get(path)
        assert status == 200
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
        assert "https://" not in text


@pytest.mark.parametrize("path", ["now", "stream", "history", "clients", "servers", "session"])
def test_figures_need_a_login(web: Web, path: str) -> None:
    assert web.get(f"/api/{path}")[0] == 401
    assert web.get(f"/api/{path}", cookie="pgferry_session=guessed")[0] == 401


def test_rights_are_those_of_the_console(web: Web) -> None:
    admin = Browser(web, "admin", "swordfish")
    assert admin.rights == "admin"
    assert admin.get("/api/session")["user"] == "admin"
    assert "HttpOnly" in admin.cookie_line
    assert "SameSite=Strict" in admin.cookie_line
    assert Browser(web, "stats", "look").rights == "stats"
    for user, password, reason in (
        ("admin", "wrong", "authentication failed"),
        ("admin", "", "authentication failed"),
        ("nobody", "x", "authentication failed"),
        ("app", "app", "not allowed"),
        ("", "x", "user name"),
    ):
        status, answer, _ = web.post("/api/login", {"user": user, "password": password})
        assert (status, reason in answer) == (403, True), answer
    assert "login of 'admin' from 127.0.0.1 refused" in web.pooler.log()
    assert "swordfish" not in web.pooler.log()


def test_logins_are_rate_limited(web: Web) -> None:
    found = [web.post("/api/login", {"user": "admin", "password": "guess"})[0] for _ in range(10)]
    assert found == [403] * 8 + [429] * 2


def test_without_password_on_this_machine_only(make_web: MakeWeb) -> None:
    web = make_web({"auth_type": "trust", "dashboard_trust": 1})
    login = {"user": "admin", "password": ""}
    assert Browser(web, "admin").rights == "admin"
    for headers in ({"x_forwarded_for": "10.0.0.1"}, {"host": "evil.example:9127"}, {"host": "evil.example"}):
        status, answer, _ = web.post("/api/login", login, **headers)
        assert (status, "no password" in answer) == (403, True), headers
    assert web.post("/api/login", login, host=f"localhost:{web.port}")[0] == 200


def test_a_user_who_loses_the_right_loses_the_session(web: Web) -> None:
    admin = Browser(web, "admin", "swordfish")
    web.pooler.set({"admin_users": "postgres", "stats_users": "stats,admin"}, reload=False)
    assert admin.command("RELOAD")[1]["ok"]
    assert admin.get("/api/session")["rights"] == "stats"
    assert admin.command("RELOAD")[1]["message"] == "admin access needed"


def test_logging_out_ends_the_session(web: Web) -> None:
    admin = Browser(web, "admin", "swordfish")
    assert web.post("/api/logout", {}, cookie=admin.cookie)[0] == 200
    assert web.get("/api/now", cookie=admin.cookie)[0] == 401


# --- what


def test_figures(web: Web) -> None:
    browser = Browser(web, "stats", "look")
    with web.pooler.connect(password="postgres", application_name="shop", autocommit=False) as client:
        client.execute("SELECT 1")
        eventually(lambda: first_sample(browser)["pools"], 15)
        sample = browser.get("/api/now")
        assert sample["state"] == "active"
        pool = sample["pools"][0]
        assert (pool["database"], pool["user"], pool["active"], pool["mode"]) == (
            "postgres",
            "postgres",
            1,
            "transaction",
        )
        assert pool["p50"] > 0
        assert sample["total"]["active"] == 1
        assert sample["longest"][0]["application_name"] == "shop"
        assert sample["longest"][0]["state"] == "idle in transaction"
        assert {row["name"] for row in sample["workers"]} >= {"supervisor", "worker-0"}
        history = browser.get("/api/history")
        assert len({len(values) for values in history.values()}) == 1
        assert history["active"][-1] == 1
        assert browser.get("/api/history?database=postgres&user=postgres")["active"][-1] == 1
        found = browser.get("/api/clients?q=shop+active")
        assert (found["found"], found["rows"][0]["application_name"]) == (1, "shop")
        assert browser.get("/api/clients?q=nothing-like-that")["rows"] == []
        assert browser.get("/api/servers?q=postgres")["found"] >= 1


def test_the_stream_goes_on(web: Web) -> None:
    browser = Browser(web, "stats", "look")
    connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=20)
    connection.request("GET", "/api/stream", headers={"cookie": browser.cookie})
    answer = connection.getresponse()
    assert answer.getheader("content-type") == "text/event-stream"
    samples = []
    while len(samples) < 2:
        line = answer.fp.readline()
        if line.startswith(b"data: "):
            samples.append(json.loads(line[6:]))
    assert samples[-1]["time"] > samples[0].get("time", 0)
    connection.close()
    assert web.get("/health/live")[0] == 200


def test_events(web: Web) -> None:
    admin = Browser(web, "admin", "swordfish")
    admin.command("PAUSE postgres")
    admin.command("RESUME postgres")
    admin.command("RELOAD")
    with socket.create_connection(("127.0.0.1", web.pooler.port)) as raw:
        raw.sendall(b"\0\0\0\x08rubbish!")
        raw.recv(1000)
    texts = [event["text"] for event in admin.get("/api/now")["events"]]
    assert [text for text in texts if "postgres" in text or "reload" in text] == [
        "PAUSE postgres",
        "RESUME postgres",
        "configuration reloaded",
    ]


def test_no_dashboard_when_it_is_off(make_web: MakeWeb) -> None:
    web = make_web({"dashboard": 0})
    assert web.get("/")[0] == 404
    assert web.post("/api/login", {"user": "admin", "password": ""})[0] == 404
    assert web.get("/metrics")[0] == 200


# --- doing


def test_commands_have_their_effect(web: Web) -> None:
    admin = Browser(web, "admin", "swordfish")
    with web.pooler.connect(password="postgres", application_name="victim") as client:
        client.execute("SELECT 1")
        number = admin.get("/api/clients?q=victim")["rows"][0]["id"]
        assert admin.command(f"KILL_CLIENT {number}") == (200, {"ok": True, "message": "done"})
        eventually(lambda: admin.get("/api/clients?q=victim")["found"] == 0)
        assert f"dashboard: 'admin' from 127.0.0.1: KILL_CLIENT {number}" in web.pooler.log()
    assert admin.command("PAUSE")[1]["ok"]
    assert web.get("/health/ready")[0] == 503
    assert admin.command("PAUSE")[1] == {"ok": False, "message": "already suspended/paused", "detail": None}
    assert admin.command("RESUME")[1]["ok"]
    assert admin.command('KILL "no such thing"')[1]["ok"] in (True, False)
    for text, status in (
        ("SHUTDOWN", 403),
        ("SHOW CONFIG", 403),
        ("SET verbose = 2", 403),
        ("nonsense !", 200),
    ):
        found, answer = admin.command(text)
        assert found == status, text
        assert found == 403 or not answer["ok"]


def test_a_pause_that_waits_does_not_hold_the_page(web: Web) -> None:
    admin = Browser(web, "admin", "swordfish")
    with web.pooler.connect(password="postgres", autocommit=False) as client:
        client.execute("SELECT 1")
        assert "under way" in admin.command("PAUSE")[1]["message"]
        assert admin.command("RESUME")[1]["ok"]
        client.execute("SELECT 2")


def test_commands_are_for_admins_with_our_page(web: Web) -> None:
    stats, admin = Browser(web, "stats", "look"), Browser(web, "admin", "swordfish")
    assert stats.command("PAUSE")[1]["message"] == "admin access needed"
    assert admin.command("PAUSE", x_csrf_token=stats.csrf)[0] == 403
    assert admin.command("PAUSE", x_csrf_token="")[0] == 403
    assert admin.command("PAUSE", origin="http://evil.example")[0] == 403
    assert admin.command("PAUSE", content_type="text/plain")[0] == 415
    assert web.post("/api/command", {"command": "PAUSE"}, x_csrf_token=admin.csrf)[0] == 401
    assert web.get("/health/ready")[0] == 200
    assert admin.command("RELOAD", origin=f"http://127.0.0.1:{web.port}")[0] == 200


def test_commands_are_rate_limited(web: Web) -> None:
    admin = Browser(web, "admin", "swordfish")
    found = [admin.command("ENABLE nothing_like_it")[0] for _ in range(32)]
    assert found == [200] * 30 + [429] * 2
