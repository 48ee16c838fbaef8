"""Checks deploy/ with the tools that know these files; says what could not be checked. `make lint` runs it.

hadolint (Containerfile), the schemas of compose and Kubernetes, a parser of PromQL, systemd-analyze, and
promtool when it is there. Without a container engine nothing is built or started: that remains to be tried.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import yaml

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
BIN = Path(sys.executable).parent
KUBERNETES = "1.32"


def main() -> int:
    """Run every check; 1 when one has something to say."""
    problems: list[str] = []
    for check in (containerfile, compose, kubernetes, rules, dashboard, unit):
        found = list(check())
        problems += [f"{check.__name__}: {problem}" for problem in found]
    print("\n".join(problems) or "deploy/ is well-formed")
    return bool(problems)


def run(*command: str | Path) -> Iterator[str]:
    """The output of a command that failed."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120)
    if done.returncode:
        yield (done.stdout + done.stderr).strip() or f"{command[0]} ended with {done.returncode}"


def containerfile() -> Iterator[str]:
    yield from run(BIN / "hadolint", DEPLOY / "Containerfile")


def compose() -> Iterator[str]:
    yield from run(
        BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml"
    )


def kubernetes() -> Iterator[str]:
    for file in sorted((DEPLOY / "kubernetes").glob("*.yaml")):
        yield from run(BIN / "kubernetes-validate", "--strict", "-k", KUBERNETES, file)
        for resource in yaml.safe_load_all(file.read_text()):
            yield from _pods(file.name, resource)


def _pods(file: str, resource: dict[str, Any]) -> Iterator[str]:
    """What the schemas do not say: volumes that are mounted exist, the selector meets the pods."""
    if resource["kind"] != "Deployment":
        return
    spec = resource["spec"]
    labels, wanted = spec["template"]["metadata"]["labels"], spec["selector"]["matchLabels"]
    if wanted.items() - labels.items():
        yield f"{file}: the selector does not meet the pods"
    pod = spec["template"]["spec"]
    volumes = {volume["name"] for volume in pod.get("volumes", [])}
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        ports = {port["name"] for port in container.get("ports", [])}
        mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
        probes = [v for k, v in container.items() if k.endswith("Probe")]
        asked = {probe["httpGet"]["port"] for probe in probes}
        if mounted - volumes or asked - ports:
            yield f"{file}: {container['name']} names what is not there: {(mounted - volumes) | (asked - ports)}"


def expressions() -> Iterator[tuple[str, str]]:
    """Every PromQL expression of alerts and dashboard, with where it stands."""
    for group in yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    for panel in json.loads((DEPLOY / "grafana" / "pgferry.json").read_text())["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


def rules() -> Iterator[str]:
    for name, text in expressions():
        try:
            promql_parser.parse(text.replace("$__rate_interval", "5m"))
        except ValueError as e:
            yield f"{name}: {e}"
    if shutil.which("promtool"):
        yield from run("promtool", "check", "rules", DEPLOY / "prometheus" / "alerts.yaml")


def dashboard() -> Iterator[str]:
    yield from run(sys.executable, ROOT / "tools" / "gen_grafana.py", "--check")
    board = json.loads((DEPLOY / "grafana" / "pgferry.json").read_text())
    places = [p["gridPos"] for p in board["panels"]]
    cells = [
        (x, y) for g in places for x in range(g["x"], g["x"] + g["w"]) for y in range(g["y"], g["y"] + g["h"])
    ]
    if len(cells) != len(set(cells)) or any(x >= 24 for x, _ in cells):
        yield "panels overlap"


def unit() -> Iterator[str]:
    """systemd-analyze knows all directives; it wants the program to exist, so it gets one that does."""
    if not shutil.which("systemd-analyze"):
        return
    text = (DEPLOY / "systemd" / "pgferry.service").read_text()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pgferry.service"
        file.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE))
        done = subprocess.run(
            ["systemd-analyze", "verify", str(file)], capture_output=True, text=True, timeout=60
        )
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "pgferry.service" in line]
    yield from (line.replace(str(file), "pgferry.service") for line in ours)


if __name__ == "__main__":
    sys.exit(main())
