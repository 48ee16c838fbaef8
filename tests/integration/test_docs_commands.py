"""Every command that the documentation shows is run, with its own example files, on a real PostgreSQL."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgferry.embedded import Cluster
from pgferry.embedded.pooler import ALLOW_ROOT, accepts
from support import cluster as clusters
from support.pooler import eventually
from support.ports import take_port

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHELL = (
    "pgferry",
    ".venv/bin/pgferry",
    "psql",
    "make",
    "docker",
    "kubectl",
    "systemctl",
    "useradd",
    "install",
    "cp",
    "curl",
)
# What a test cannot do to the machine it runs on, or what other tests do (test_demo; make runs this one).
NOT_RUN = ("make ", "docker ", "kubectl ", "systemctl ", "useradd ", "install ", "cp ")
# Run by the tests of what they are about.
ELSEWHERE = ("pgferry -d new.ini", "pgferry -R ", "pgferry top ", 'psql "host=/run/old', "curl ")
SERVERS = ("pgferry run ", "pgferry pgbouncer.ini")  # these stay until they are ended
pytestmark = [pytest.mark.workers(1), pytest.mark.pg(15)]


def blocks(page: Path) -> list[str]:
    """The code blocks of a page: lines indented by four blanks."""
    return [
        re.sub(r"^    ", "", block, flags=re.MULTILINE)
        for block in re.findall(r"(?:^    .*\n(?:\n(?=    ))?)+", page.read_text(), re.MULTILINE)
    ]


def commands() -> list[str]:
    """All commands, those over several lines joined, without prompts and comments."""
    found = []
    for page in PAGES:
        for block in blocks(page):
            for line in block.replace("\\\n", " ").splitlines():
                command = re.sub(r"\s+# .*$", "", line.removeprefix("$ ")).strip()
                if command.split(" ")[0] in SHELL:
                    found.append(" ".join(command.split()))
    return list(dict.fromkeys(found))


RUN = [c for c in commands() if not c.startswith((*NOT_RUN, *ELSEWHERE))]


def test_there_are_commands() -> None:
    assert len(RUN) > 15
    assert any(c.startswith("pgferry bench") for c in RUN)


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    """A PostgreSQL with the users and tables of the examples."""
    hba = ("local all all trust", "host all all all scram-sha-256")
    cluster = clusters.new_cluster(15, hba=hba)
    cluster.sql("CREATE ROLE alice LOGIN SUPERUSER PASSWORD 'secret'")
    cluster.sql("CREATE DATABASE shop")
    cluster.sql("CREATE TABLE item AS SELECT g AS id FROM generate_series(1, 10) AS g", "shop")
    yield cluster
    cluster.close()


class Place:
    """A directory with the files of the quick start, and a pgferry that runs with them."""

    def __init__(self, folder: Path, cluster: Cluster, port: int) -> None:
        self.folder, self.cluster, self.port = folder, cluster, port
        ini, userlist = self._examples()
        (folder / "pgbouncer.ini").write_text(self._here(ini) + f"unix_socket_dir = {folder}\n")
        (folder / "userlist.txt").write_text(userlist)
        self.environ = {
            **os.environ,
            "PGPASSWORD": "secret",
            ALLOW_ROOT: "1",
            "PYTHONPATH": str(ROOT / "src"),
        }

    def _examples(self) -> tuple[str, str]:
        found = blocks(ROOT / "docs" / "quick-start.md")
        ini = next(b for b in found if b.startswith("[databases]"))
        return ini, next(b for b in found if b.startswith('"alice"'))

    def _here(self, text: str) -> str:
        ports = {"5432": self.cluster.port, "6432": self.port}
        text = re.sub(r"\b(5432|6432)\b", lambda match: str(ports[match[1]]), text)
        return text.replace("db.example/", f"127.0.0.1:{self.cluster.port}/")

    def argv(self, command: str) -> list[str]:
        """The command with the ports and users of this place."""
        text = re.sub(r"//(\w+)@127\.0\.0\.1/", f"//\\1@127.0.0.1:{self.cluster.port}/", command)
        text = self._here(text.replace("/etc/pgbouncer/", ""))
        text = re.sub(r"postgresql://(admin|stats|postgres|app|demo)@", "postgresql://alice@", text)
        text = text.replace("-U demo demo", "-U alice shop").replace("-U demo", "-U alice")
        words = shlex.split(text.replace("pg_sleep(60)", "pg_sleep(0)").removesuffix("&"))
        if words[0].endswith("pgferry"):
            words[:1] = [sys.executable, "-m", "pgferry"]
        if words[0] == "psql" and "-c" not in words:
            words += ["-c", "SHOW VERSION" if words[-1] == "pgbouncer" else "SELECT 1"]
        if "bench" in words:
            words += ["--seconds", "0.5", "--pool", "2"]
        if "advise" in words and "--console" in words:
            words += ["--interval", "2"]
        return words

    def start(self, command: str) -> "subprocess.Popen[bytes]":
        """Start a pgferry and wait until it says that it is up."""
        path = self.folder / "log"
        with path.open("wb") as log:
            process = subprocess.Popen(
                self.argv(command), cwd=self.folder, env=self.environ, stdout=log, stderr=log
            )
        eventually(lambda: "process up" in path.read_text(), 30, f"{command} does not come up")
        assert accepts(("127.0.0.1", self.port))
        return process


@pytest.fixture(scope="module")
def place(server: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with take_port() as port:
        made = Place(tmp_path_factory.mktemp("docs"), server, port)
        process = made.start("pgferry pgbouncer.ini")
        load = [sys.executable, "-c", LOAD, str(port)]
        busy = subprocess.Popen(load, env=made.environ)
        yield made
        busy.kill()
        busy.wait()
        process.send_signal(2)
        assert process.wait(20) == 0


LOAD = """
import psycopg, sys
with psycopg.connect(f"host=127.0.0.1 port={sys.argv[1]} user=alice dbname=shop", autocommit=True) as connection:
    while True:
        connection.execute("SELECT pg_sleep(0.01)")
"""


@pytest.mark.parametrize("command", [c for c in RUN if not c.startswith(SERVERS)])
def test_a_command(place: Place, command: str) -> None:
    if command.startswith("psql") and not shutil.which("psql"):
        pytest.skip("psql is not installed")
    done = subprocess.run(
        place.argv(command), cwd=place.folder, env=place.environ, capture_output=True, text=True, timeout=90
    )
    # doctor ends with 1 when it has found something, and it does in the short examples.
    expected = (0, 1) if " doctor " in command else (0,)
    assert done.returncode in expected, done.stdout + done.stderr
    assert done.stdout.strip()
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [c for c in RUN if c.startswith(SERVERS)])
def test_a_command_that_stays(server: Cluster, tmp_path: Path, command: str) -> None:
    with take_port() as port:
        place = Place(tmp_path, server, port)
        process = place.start(f"{command} --listen 127.0.0.1:{port}" if " run " in command else command)
        process.send_signal(2)
        assert process.wait(20) == 0, (tmp_path / "log").read_text()
