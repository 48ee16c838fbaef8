"""The HTTP port of a pooler under test: metrics as numbers, the dashboard's interface."""

import http.client
import json
from typing import Any

from prometheus_client.parser import text_string_to_metric_families as parse_text

from support.pooler import Pooler


class Web:
    """The HTTP port of a pooler."""

    def __init__(self, pooler: Pooler, port: int) -> None:
        self.pooler = pooler
        self.port = port

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(), {k.lower(): v for k, v in answer.getheaders()}
        finally:
            connection.close()

    def samples(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        families = parse_text(self.get("/metrics")[1])
        return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}

    def value(self, name: str, **labels: str) -> float | None:
        return self.samples().get((name, tuple(sorted(labels.items()))))

    # The dashboard

    def post(self, path: str, body: object, **headers: str) -> tuple[int, Any, dict[str, str]]:
        """Send JSON; (status, answer, headers). The answer is what it says when it is no JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        try:
            sent = {
                "content-type": "application/json",
                **{k.replace("_", "-"): v for k, v in headers.items()},
            }
            connection.request("POST", path, body=json.dumps(body), headers=sent)
            answer = connection.getresponse()
            text = answer.read().decode()
            found = {k.lower(): v for k, v in answer.getheaders()}
            return (
                answer.status,
                json.loads(text) if found["content-type"] == "application/json" else text,
                found,
            )
        finally:
            connection.close()


class Browser:
    """Somebody who has logged in to the dashboard."""

    def __init__(self, web: Web, user: str, password: str = "") -> None:
        self.web = web
        status, answer, headers = web.post("/api/login", {"user": user, "password": password})
        assert status == 200, answer
        self.rights: str = answer["rights"]
        self.csrf: str = answer["csrf"]
        self.cookie = headers["set-cookie"].partition(";")[0]
        self.cookie_line = headers["set-cookie"]

    def get(self, path: str) -> Any:
        """JSON of a GET."""
        status, text, _ = self.web.get(path, cookie=self.cookie)
        assert status == 200, text
        return json.loads(text)

    def command(self, text: str, **headers: str) -> tuple[int, Any]:
        """Run a command; (status, answer)."""
        sent = {"cookie": self.cookie, "x_csrf_token": self.csrf, **headers}
        return self.web.post("/api/command", {"command": text}, **sent)[:2]
