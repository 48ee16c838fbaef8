"""The files in deploy/ say what is there: metrics, settings, variables; and what the image starts works."""

import json
import os
import re
import shlex
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from pgferry.config import environment
from pgferry.config.load import load
from pgferry.embedded import Cluster
from pgferry.embedded.pooler import ALLOW_ROOT
from support.pooler import Pooler
from support.ports import take_port

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
_METRIC = re.compile(r"\b(?:pgbouncer|pgferry)_[a-z0-9_]+")
pytestmark = pytest.mark.workers(1)


def documents(name: str) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all((DEPLOY / name).read_text()) if document]


def expressions() -> list[str]:
    rules = [r["expr"] for g in documents("prometheus/alerts.yaml")[0]["groups"] for r in g["rules"]]
    board = json.loads((DEPLOY / "grafana" / "pgferry.json").read_text())
    panels = [t["expr"] for p in board["panels"] for t in p.get("targets", [])]
    choices = [v["definition"] for v in board["templating"]["list"] if "definition" in v]
    return rules + panels + choices


@pytest.mark.pg(18)
@pytest.mark.usefixtures("cluster")
def test_every_metric_exists(make_pooler: Callable[..., Pooler]) -> None:
    with take_port() as port:
        pooler = make_pooler(settings={"http_listen": f"127.0.0.1:{port}", "session_state": "track"})
        with pooler.connect() as connection:
            connection.execute("SELECT 1")
            # What a metric is declared as, whether or not it has samples yet.
            text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
    known = set(kinds)
    known |= {
        f"{name}_{end}"
        for name, kind in kinds.items()
        if kind == "histogram"
        for end in ("bucket", "sum", "count")
    }
    named = {name for text in expressions() for name in _METRIC.findall(text)}
    assert len(named) > 20
    assert named - known == set()


def test_the_configuration_for_kubernetes(tmp_path: Path) -> None:
    central = {d["kind"]: d for d in documents("kubernetes/central.yaml")}
    path = tmp_path / "userlist.txt"
    path.write_text(central["Secret"]["stringData"]["userlist.txt"])
    text = central["ConfigMap"]["data"]["pgferry.ini"]
    (tmp_path / "pgferry.ini").write_text(text.replace("/etc/pgferry-secret/userlist.txt", str(path)))
    config = load(str(tmp_path / "pgferry.ini"))
    assert config.warnings == []
    assert set(config.users) == {"shop", "monitoring"}
    ports = {
        p["containerPort"]
        for p in central["Deployment"]["spec"]["template"]["spec"]["containers"][0]["ports"]
    }
    assert ports == {config.settings.listen_port, int(config.settings.http_listen.rpartition(":")[2])}


@pytest.mark.parametrize("name", ["central", "sidecar"])
def test_the_http_port_is_not_for_every_pod(name: str) -> None:
    found = {d["kind"]: d for d in documents(f"kubernetes/{name}.yaml")}
    pod = found["Deployment"]["spec"]["template"]
    policy = found["NetworkPolicy"]["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    names = {
        p["name"]: p["containerPort"]
        for each in pod["spec"]["containers"] + pod["spec"].get("initContainers", [])
        for p in each.get("ports", [])
    }
    for rule in policy["ingress"]:
        ranges = [(p["port"], p.get("endPort", p["port"])) for p in rule["ports"] if p["protocol"] == "TCP"]
        if any(names.get(low, low) <= 9127 <= names.get(high, high) for low, high in ranges):
            assert rule["from"], "only from the monitoring"


def variables() -> Iterator[tuple[str, str]]:
    yield from re.findall(
        r"^(?:ENV|   ) ([A-Z_]+)=(\S+)", (DEPLOY / "Containerfile").read_text(), re.MULTILINE
    )
    yield from documents("compose.yaml")[0]["services"]["pgferry"]["environment"].items()
    sidecar = {d["kind"]: d for d in documents("kubernetes/sidecar.yaml")}["Deployment"]
    for item in sidecar["spec"]["template"]["spec"]["initContainers"][0]["env"]:
        yield item["name"], item.get("value", "")


def test_every_variable_is_a_setting() -> None:
    known = {*environment.variables(), "DATABASE_URL", "PATH", "PYTHONDONTWRITEBYTECODE"}
    names = {name for name, _ in variables()}
    assert len(names) > 8
    assert names - known == set()


def image_command() -> list[str]:
    """What the image runs: ENTRYPOINT and CMD."""
    text = (DEPLOY / "Containerfile").read_text()
    parts = [re.findall(rf"^{word} (\[.*\])$", text, re.MULTILINE)[-1] for word in ("ENTRYPOINT", "CMD")]
    words = [word for part in parts for word in json.loads(part)]
    assert words[0] == "pgferry"
    return words[1:]


def health_check() -> list[str]:
    text = (DEPLOY / "Containerfile").read_text().replace("\\\n", "")
    words = json.loads(re.findall(r"^HEALTHCHECK .* CMD (\[.*\])$", text, re.MULTILINE)[0])
    assert words[0] == "python"
    return [sys.executable, *words[1:]]


@pytest.mark.pg(15)
def test_what_the_image_runs(cluster: Cluster, tmp_path: Path) -> None:
    """With the variables of the compose file: queries work, it is healthy, INT ends it."""
    with take_port() as port, take_port() as http:
        given = dict(documents("compose.yaml")[0]["services"]["pgferry"]["environment"])
        environ = {
            **os.environ,
            **given,
            "DATABASE_URL": f"postgresql://postgres@127.0.0.1:{cluster.port}/postgres",
            "LISTEN_ADDR": "*",
            "LISTEN_PORT": str(port),
            "HTTP_LISTEN": f"*:{http}",
            "UNIX_SOCKET_DIR": str(tmp_path),
            ALLOW_ROOT: "1",
        }
        log = (tmp_path / "log").open("w+")
        process = subprocess.Popen(
            [sys.executable, "-m", "pgferry", *image_command()], env=environ, stdout=log, stderr=log
        )
        try:
            _wait_ready(http)
            with psycopg.connect(f"host=127.0.0.1 port={port} user=postgres dbname=postgres") as connection:
                assert connection.execute("SELECT 1").fetchone() == (1,)
            console = psycopg.connect(
                f"host=127.0.0.1 port={port} user=postgres dbname=pgbouncer", autocommit=True,
                cursor_factory=psycopg.ClientCursor,
            )  # fmt: skip
            with console:
                shown = {row[0]: row[1] for row in console.execute("SHOW CONFIG").fetchall()}
            assert {name: shown[name.lower()] for name in given if name != "DATABASE_URL"} == {
                name: value for name, value in given.items() if name != "DATABASE_URL"
            }
            check = [word.replace("9127", str(http)) for word in health_check()]
            assert subprocess.run(check, timeout=20).returncode == 0, shlex.join(check)
        finally:
            process.send_signal(2)
            assert process.wait(20) == 0
            log.seek(0)
            text = log.read()
            log.close()
    assert "from the environment: default_pool_size, " in text
    assert "Traceback" not in text


def _wait_ready(port: int) -> None:
    limit = time.monotonic() + 30
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=5)
            return
        except (urllib.error.URLError, OSError):
            assert time.monotonic() < limit, "it never became ready"
            time.sleep(0.05)
