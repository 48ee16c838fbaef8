"""Listening sockets: addresses, families, several workers, unix sockets of both kinds."""

import grp
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pgferry.supervisor.errors import StartError
from pgferry.supervisor.listeners import Listeners, ListenPlan, open_listeners
from support.ports import take_port


class Lines:
    """A log that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, text: str) -> None:
        self.lines.append(text)

    def warning(self, text: str) -> None:
        self.lines.append(f"WARNING {text}")


@pytest.fixture
def port() -> Iterator[int]:
    with take_port() as number:
        yield number


@pytest.fixture
def log() -> Lines:
    return Lines()


def open_plan(log: Lines, port: int, **changes: Any) -> Listeners:
    values: dict[str, Any] = {
        "addresses": ("127.0.0.1",),
        "port": port,
        "backlog": 128,
        "unix_dir": "",
        "unix_mode": 0o777,
        "unix_group": "",
        "reuseport": False,
        "defer_accept": True,
        "workers": 1,
    }
    return open_listeners(ListenPlan(**{**values, **changes}), log)  # type: ignore[arg-type]


def connects(address: object, family: int = socket.AF_INET) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as client:
        return client.connect_ex(address) == 0  # type: ignore[arg-type]


def test_several_addresses_one_of_them_bad(log: Lines, port: int) -> None:
    listeners = open_plan(
        log, port, addresses=("127.0.0.1", "192.0.2.7", "127.0.0.2", "no.such.name.invalid")
    )
    assert len(listeners.tcp[0]) == 2
    assert connects(("127.0.0.1", port))
    assert connects(("127.0.0.2", port))
    assert f"listening on 127.0.0.1:{port}" in log.lines
    assert any(line.startswith(f"WARNING cannot listen on 192.0.2.7:{port}") for line in log.lines)
    assert any(
        line.startswith("WARNING cannot resolve listen_addr 'no.such.name.invalid'") for line in log.lines
    )
    listeners.close_tcp()
    assert not connects(("127.0.0.1", port))
    listeners.close()


@pytest.mark.skipif(not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists(), reason="no IPv6 here")
def test_star_is_both_families(log: Lines, port: int) -> None:
    listeners = open_plan(log, port, addresses=("*",))
    assert {sock.family for sock in listeners.tcp[0]} == {socket.AF_INET, socket.AF_INET6}
    for sock in listeners.tcp[0]:
        if sock.family == socket.AF_INET6:
            assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    assert f"listening on [::]:{port}" in log.lines
    listeners.close()


def test_each_worker_has_its_own_socket(log: Lines, port: int) -> None:
    listeners = open_plan(log, port, workers=3)
    assert [len(group) for group in listeners.tcp] == [1, 1, 1]
    inodes = {os.fstat(group[0].fileno()).st_ino for group in listeners.tcp}
    assert len(inodes) == 3
    with pytest.raises(StartError, match="no usable listen_addr"):
        open_plan(log, port, workers=3)
    listeners.close()


def test_reuseport_lets_a_second_pooler_in(log: Lines, port: int) -> None:
    one = open_plan(log, port, reuseport=True)
    two = open_plan(log, port, reuseport=True, workers=2)
    one.close()
    two.close()


def test_nothing_to_listen_on(log: Lines, port: int) -> None:
    with pytest.raises(StartError, match="nowhere to listen on"):
        open_plan(log, port, addresses=())


def test_unix_socket(log: Lines, port: int, socket_dir: str) -> None:
    group = grp.getgrgid(os.getegid())
    listeners = open_plan(
        log, port, addresses=(), unix_dir=socket_dir, unix_mode=0o620, unix_group=group.gr_name
    )
    path = Path(socket_dir) / f".s.PGSQL.{port}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o620
    assert connects(str(path), socket.AF_UNIX)
    with pytest.raises(StartError, match="unix socket is in use, cannot continue"):
        open_plan(log, port, addresses=(), unix_dir=socket_dir)
    assert path.exists()
    listeners.close()
    assert not path.exists()


def test_unix_socket_troubles(log: Lines, port: int, socket_dir: str) -> None:
    with pytest.raises(StartError, match="could not find group 'no_such_group_here'"):
        open_plan(log, port, addresses=(), unix_dir=socket_dir, unix_group="no_such_group_here")
    assert not list(Path(socket_dir).iterdir())
    with pytest.raises(StartError, match="cannot listen on unix:/no/such/dir"):
        open_plan(log, port, addresses=(), unix_dir="/no/such/dir")
    lock = Path(socket_dir) / f".s.PGSQL.{port}.lock"
    lock.touch()
    with pytest.raises(StartError, match="lock file exists"):
        open_plan(log, port, addresses=(), unix_dir=socket_dir)


def test_a_plain_file_is_not_removed(log: Lines, port: int, socket_dir: str) -> None:
    path = Path(socket_dir) / f".s.PGSQL.{port}"
    path.write_text("precious")
    with pytest.raises(StartError, match="cannot listen on unix"):
        open_plan(log, port, addresses=(), unix_dir=socket_dir)
    assert path.read_text() == "precious"


def test_abstract_unix_socket(log: Lines, port: int) -> None:
    name = f"pgferry-test-{os.getpid()}"
    listeners = open_plan(log, port, addresses=(), unix_dir=f"@{name}")
    assert f"listening on unix:@{name}/.s.PGSQL.{port}" in log.lines
    assert connects(f"\0{name}/.s.PGSQL.{port}", socket.AF_UNIX)
    with pytest.raises(StartError, match="unix socket is in use"):
        open_plan(log, port, addresses=(), unix_dir=f"@{name}")
    listeners.close()
