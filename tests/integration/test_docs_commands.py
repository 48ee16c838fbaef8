"""Every command that the documentation shows is run, with its own example files, on a real PostgreSQL.

Where it cannot be (no container engine, no service manager, a machine that is not ours to change) what it names is
looked at, or it is done in a directory. A command of a kind that nobody has thought of fails the first test.
"""

import json
import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from signal import SIGINT
from textwrap import dedent

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
    "pg_basebackup",
    "make",
    "pip",
    "python",
    "python3",
    "docker",
    "kubectl",
    "systemctl",
    "useradd",
    "install",
    "cp",
    "curl",
    "ssh",
    "openssl",
)
MESSAGES = ("pgferry should not run as root",)
# These stay until they are ended.
SERVERS = ("pgferry run", "pgferry pgbouncer.ini", "pgferry /etc/pgbouncer/pgbouncer.ini")
# Begins with -> the test here that runs it, or what can be said of it without.
BY_ITSELF = {
    "pgferry run --env": "test_the_image",
    "pgferry -d new.ini": "test_the_next_one_on_the_same_port",
    "pgferry -d pgbouncer.ini": "test_the_next_one_on_the_same_port",
    'psql "host=/run/old': "test_the_next_one_on_the_same_port",
    "pgferry -R -d": "test_online_upgrade",
    "pgferry top": "test_top_in_a_terminal",
    "docker run": "test_the_image",
    "docker ": "test_files_exist",
    "python -m bench": "test_the_benchmark_knows_its_options",
    "make ": "test_make_knows_the_target",
    "pip install": "test_extras_exist",
    "useradd ": "test_an_installation",
    "install ": "test_an_installation",
    "cp ": "test_an_installation",
    "systemctl enable": "test_an_installation",
    # Minutes of compiling: what the image's file does, too.
    "python3 -m venv": "",
    # tests/integration/test_replication_tools.py
    "pg_basebackup -h pooler": "",
    # Nothing of ours: a way to another machine, a look into a certificate.
    "ssh -L": "",
    "openssl x509": "",
}
pytestmark = [pytest.mark.workers(1), pytest.mark.pg(15)]


def blocks(page: Path) -> list[str]:
    """The code blocks of a page: lines indented by four blanks."""
    return [
        re.sub(r"^    ", "", block, flags=re.MULTILINE)
        for block in re.findall(r"(?:^    .*\n(?:\n(?=    ))?)+", page.read_text(), re.MULTILINE)
    ]


def written(page: Path) -> Iterator[str]:
    """Lines of code blocks, those that go on joined; and commands within the text, unless they leave something out."""
    for block in blocks(page):
        yield from block.replace("\\\n", " ").splitlines()
    for text in re.findall(r"`([^`\n]+)`", re.sub(r"^    .*$", "", page.read_text(), flags=re.MULTILINE)):
        whole = not text.endswith(("…", " --url")) and text not in MESSAGES
        if whole and len(text.split()) > (1 if "/" in text else 2):
            yield text


def commands() -> list[str]:
    """All commands, without prompts and comments."""
    found = []
    for page in PAGES:
        if page.name == "architecture.md":
            continue
        for line in written(page):
            command = re.sub(r"\s+# .*$", "", line.removeprefix("$ ")).strip()
            if command.split(" ")[0] in SHELL:
                found.append(" ".join(command.split()))
    return list(dict.fromkeys(found))


def like(start: str) -> list[str]:
    """The commands that begin so, and that no longer beginning has for itself."""
    return [c for c in commands() if own_test(c) == start]


def own_test(command: str) -> str | None:
    """The longest beginning in BY_ITSELF."""
    return max((b for b in BY_ITSELF if command.startswith(b)), key=len, default=None)


RUN = [c for c in commands() if own_test(c) is None]


def test_there_are_commands() -> None:
    assert len(RUN) > 20
    assert any(c.startswith("pgferry bench") for c in RUN)
    assert {c.split()[0] for c in RUN} == {"pgferry", ".venv/bin/pgferry", "psql"}
    assert [name for name in BY_ITSELF.values() if name and name not in globals()] == []
    assert [start for start in BY_ITSELF if not like(start)] == []


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
            "DATABASE_URL": f"postgresql://alice:secret@127.0.0.1:{cluster.port}/shop",
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
        for name, here in OPEN.items():
            command = command.replace(name, here)
        text = re.sub(r"//(\w+)@127\.0\.0\.1/", f"//\\1@127.0.0.1:{self.cluster.port}/", command)
        text = self._here(text)
        text = re.sub(r"postgresql://(admin|stats|postgres|app|demo)@", "postgresql://alice@", text)
        text = text.replace("-U demo demo", "-U alice shop").replace("-U demo", "-U alice")
        words = shlex.split(text.replace("pg_sleep(60)", "pg_sleep(0)"))
        if words[0].endswith("pgferry"):
            words[:1] = [sys.executable, "-m", "pgferry"]
        if words[0] == "psql" and "-c" not in words:
            words += ["-c", "SHOW VERSION" if words[-1] == "pgbouncer" else "SELECT 1"]
        if "bench" in words:
            words += ["--seconds", "0.5", "--pool", "2"]
        if "advise" in words and "--console" in words:
            words += ["--interval", "2"]
        return words

    def run(self, command: str) -> str:
        """Run a command that has to succeed; its output."""
        done = subprocess.run(
            self.argv(command), cwd=self.folder, env=self.environ, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def pid(self, name: str) -> int:
        """The process of a pid file."""
        return int((self.folder / f"{name}.pid").read_text())

    def end(self, name: str) -> None:
        """End the daemon of a pid file."""
        pid = self.pid(name)
        os.kill(pid, SIGINT)
        eventually(lambda: not Path(f"/proc/{pid}").exists(), 20)

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


# What a text leaves open, or has elsewhere.
OPEN = {
    "/etc/pgbouncer/": "",
    "/etc/pgferry/pgferry.ini": "pgbouncer.ini",
    "FILE": "pgbouncer.ini",
    "@HOST:": "@127.0.0.1:",
    "USER@DBHOST/DB": "postgres@127.0.0.1/shop",
}
LOAD = """
import psycopg, sys
with psycopg.connect(f"host=127.0.0.1 port={sys.argv[1]} user=alice dbname=shop", autocommit=True) as connection:
    while True:
        connection.execute("SELECT pg_sleep(0.01)")
"""


@pytest.mark.parametrize("command", [c for c in RUN if c not in SERVERS])
def test_a_command(place: Place, command: str) -> None:
    if command.startswith("psql") and not shutil.which("psql"):
        pytest.skip("psql is not installed")
    done = subprocess.run(
        place.argv(command), cwd=place.folder, env=place.environ, capture_output=True, text=True, timeout=90
    )
    # doctor ends with 1 when it has found something, and it does in the short examples.
    expected = (0, 1) if " doctor " in command and "--fail-on" not in command else (0,)
    assert done.returncode in expected, done.stdout + done.stderr
    assert done.stdout.strip()
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [c for c in RUN if c in SERVERS])
def test_a_command_that_stays(server: Cluster, tmp_path: Path, command: str) -> None:
    with take_port() as port:
        place = Place(tmp_path, server, port)
        process = place.start(f"{command} --listen 127.0.0.1:{port}" if command == "pgferry run" else command)
        process.send_signal(2)
        assert process.wait(20) == 0, (tmp_path / "log").read_text()


@pytest.mark.skipif(not shutil.which("psql"), reason="psql is not installed")
def test_the_next_one_on_the_same_port(server: Cluster, tmp_path: Path) -> None:
    """As service.md says it: both listen, the old one is told to leave."""
    (start,), (leave,) = like("pgferry -d new.ini"), like('psql "host=/run/old')
    with take_port() as port:
        place = Place(tmp_path, server, port)
        for name in ("old", "new"):
            (tmp_path / name).mkdir()
            more = {
                "so_reuseport": "1",
                "unix_socket_dir": f"{tmp_path}/{name}",
                "pidfile": f"{tmp_path}/{name}.pid",
                "logfile": f"{tmp_path}/{name}.log",
            }
            text = re.sub(r"^unix_socket_dir.*\n", "", (tmp_path / "pgbouncer.ini").read_text(), flags=re.M)
            (tmp_path / f"{name}.ini").write_text(text + "".join(f"{k} = {v}\n" for k, v in more.items()))
        place.run(start.replace("new.ini", "old.ini"))
        old, _ = place.pid("old"), place.run(start)
        place.run(leave.replace("/run/old", f"{tmp_path}/old"))
        eventually(lambda: not Path(f"/proc/{old}").exists(), 20)
        assert accepts(("127.0.0.1", port))
        place.end("new")


def test_online_upgrade(server: Cluster, tmp_path: Path) -> None:
    (command,) = like("pgferry -R -d")
    with take_port() as port:
        place = Place(tmp_path, server, port)
        with (tmp_path / "pgbouncer.ini").open("a") as ini:
            ini.write(f"pidfile = {tmp_path}/both.pid\nlogfile = {tmp_path}/both.log\n")
        place.run(command)
        first = place.pid("both")
        place.run(command)
        eventually(lambda: not Path(f"/proc/{first}").exists(), 20)
        assert place.pid("both") != first
        assert accepts(("127.0.0.1", port))
        place.end("both")


def test_top_in_a_terminal(place: Place) -> None:
    (command,) = like("pgferry top")
    ours, theirs = pty.openpty()
    environ = {**place.environ, "TERM": "xterm-256color", "COLUMNS": "150", "LINES": "40"}
    process = subprocess.Popen(
        place.argv(command), cwd=place.folder, env=environ, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    seen = b""
    while b"trans/s" not in seen:  # ends with an error when the program does
        seen += os.read(ours, 65536)
    os.write(ours, b"q")
    drain = threading.Thread(target=_drain, args=(ours,))
    drain.start()
    assert process.wait(30) == 0
    drain.join()
    os.close(ours)


def _drain(descriptor: int) -> None:
    with suppress(OSError):
        while os.read(descriptor, 65536):
            pass


@pytest.mark.parametrize("command", [*like("docker run"), *like("pgferry run --env")])
def test_the_image(server: Cluster, tmp_path: Path, command: str) -> None:
    """What the image would start with these arguments and variables."""
    text = (ROOT / "deploy" / "Containerfile").read_text()
    entry, default = (json.loads(re.findall(rf"^{w} (.*)$", text, re.M)[-1]) for w in ("ENTRYPOINT", "CMD"))
    words = shlex.split(command)
    given = {"DATABASE_URL": "postgresql://shop:secret@db:5432/shop"} if "-v" not in words else {}
    given |= dict(w.split("=", 1) for before, w in pairwise(words) if before == "-e")
    if words[0] == "docker":
        assert words[words.index("-p") + 1].endswith(":6432")
        words = entry + (words[words.index("pgferry") + 1 :] or default)
    with take_port() as port:
        place = Place(tmp_path, server, port)
        for name, value in given.items():
            url = value.replace("shop:secret@db:5432", f"alice:secret@127.0.0.1:{server.port}")
            place.environ[name] = url
        place.environ |= {"LISTEN_PORT": str(port), "UNIX_SOCKET_DIR": ""}
        process = place.start(shlex.join(words))
        place.run(f"psql postgresql://alice@127.0.0.1:{port}/shop -c 'SELECT 1'")
        process.send_signal(2)
        assert process.wait(30) == 0, (tmp_path / "log").read_text()


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("useradd"), reason="only root can install something for others"
)
def test_an_installation(tmp_path: Path) -> None:
    """The steps for systemd, in a directory instead of the machine's root."""
    for folder in ("etc/systemd/system", "var/mail"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("passwd", "group", "shadow", "login.defs"):
        shutil.copy(f"/etc/{name}", tmp_path / "etc" / name)
    group = subprocess.run(["id", "-gn"], capture_output=True, text=True, check=True).stdout.strip()
    steps = [c for start in ("useradd ", "install ", "cp ") for c in like(start)]
    assert len(steps) == 3
    for command in steps:
        text = command.replace("/etc/", f"{tmp_path}/etc/")
        text = text.replace("useradd ", f"useradd --prefix {tmp_path} ").replace("-g pgferry", f"-g {group}")
        done = subprocess.run(shlex.split(text), cwd=ROOT, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
    assert re.search(r"^pgferry:.*nologin$", (tmp_path / "etc" / "passwd").read_text(), re.M)
    (enable,) = like("systemctl enable")
    unit = (tmp_path / "etc/systemd/system" / f"{enable.split()[-1]}.service").read_text()
    assert "User=pgferry" in unit
    assert "/etc/pgferry/pgferry.ini" in unit


@pytest.mark.parametrize("command", like("docker "))
def test_files_exist(command: str) -> None:
    words = shlex.split(command)
    assert (ROOT / words[words.index("-f") + 1]).is_file()


@pytest.mark.parametrize("command", like("make "))
def test_make_knows_the_target(command: str) -> None:
    target = command.split()[1]
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("command", like("pip install"))
def test_extras_exist(command: str) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert re.findall(r"pgferry\[(\w+)\]", command)[0] in extras


@pytest.mark.parametrize("command", like("python -m bench"))
def test_the_benchmark_knows_its_options(command: str) -> None:
    words = [sys.executable, *shlex.split(command)[1:], "--help"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def sql(page: str, start: str) -> str:
    """The code block of a page that begins so."""
    parts = [dedent(b.partition("\n\n")[0]) for b in blocks(ROOT / "docs" / page)]
    found = [text for text in parts if text.startswith(start)]
    assert len(found) == 1
    return found[0]


def test_the_function_for_auth_query(server: Cluster) -> None:
    server.sql(sql("authentication.md", "CREATE ROLE pgferry_auth"), "shop")
    server.sql("CREATE ROLE bob LOGIN PASSWORD 'secret'")
    asked = "SELECT name, left(secret, 5) FROM pgferry.secret_of('{}')"
    assert [tuple(row) for row in server.sql(asked.format("bob"), "shop")] == [("bob", "SCRAM")]
    assert list(server.sql(asked.format("alice"), "shop")) == [], "no secret of a superuser"


def test_commands_of_the_console(place: Place) -> None:
    for line in sql("console.md", "PAUSE;").splitlines():
        if word := line.partition("--")[0].strip():
            place.run(f"psql postgresql://alice@127.0.0.1:{place.port}/pgbouncer -c '{word}'")
