"""The listening sockets: TCP per address and worker, one unix socket for all workers."""

import contextlib
import grp
import os
import socket
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pgferry.supervisor.errors import StartError
from pgferry.supervisor.log import Log

# Seconds the kernel holds back a connection without data; then it is handed over all the same.
_DEFER_ACCEPT_SECONDS = 45


@dataclass(frozen=True, slots=True)
class ListenPlan:
    """The settings that listening depends on."""

    addresses: Sequence[str]
    port: int
    backlog: int
    unix_dir: str
    unix_mode: int
    unix_group: str
    reuseport: bool
    defer_accept: bool
    workers: int


@dataclass(slots=True)
class Listeners:
    """Open sockets. The supervisor keeps copies: a restarted worker finds the connections that wait."""

    tcp: list[list[socket.socket]] = field(default_factory=list)
    """For each worker, its own TCP listeners."""
    unix: list[socket.socket] = field(default_factory=list)
    unix_path: str | None = None

    def close_tcp(self) -> None:
        """Stop taking TCP connections, as far as this process is concerned."""
        for group in self.tcp:
            for sock in group:
                sock.close()
            group.clear()

    def close(self) -> None:
        """Close everything and remove the socket file."""
        self.close_tcp()
        for sock in self.unix:
            sock.close()
        self.unix.clear()
        if self.unix_path is not None:
            with contextlib.suppress(OSError):
                Path(self.unix_path).unlink()
            self.unix_path = None

    def leave(self) -> None:
        """Close our copies of sockets that another process goes on with."""
        self.unix_path = None
        self.close()

    def defer_accept(self, on: bool) -> None:
        """Set TCP_DEFER_ACCEPT on the listeners that are open; they share it with the workers."""
        for group in self.tcp:
            for sock in group:
                _defer_accept(sock, on)


def open_listeners(plan: ListenPlan, log: Log) -> Listeners:
    """Open all listeners of `plan`. One failing address is a warning.

    Raises StartError when no TCP address works, the unix socket cannot be had, or nothing is configured.
    """
    result = Listeners(tcp=[[] for _ in range(plan.workers)])
    try:
        if plan.addresses:
            _open_tcp(plan, result, log)
        if plan.unix_dir:
            _open_unix(plan, result, log)
    except BaseException as error:
        result.close()
        if isinstance(error, OSError):
            raise StartError(f"cannot listen: {error.strerror}") from error
        raise
    if not plan.addresses and not plan.unix_dir:
        raise StartError("nowhere to listen on: listen_addr and unix_socket_dir are both empty")
    return result


def open_http(text: str) -> list[socket.socket]:
    """Listen on each `address:port` of a list with commas; `*` is every address. Raises StartError."""
    sockets: list[socket.socket] = []
    try:
        for item in filter(None, (part.strip() for part in text.split(","))):
            host, _, port = item.rpartition(":")
            host = host.strip("[]")
            if not port.isdigit() or not 0 < int(port) < 65536:
                raise StartError(f"http_listen: '{item}' is not address:port")
            sockets.append(_listen_http("" if host == "*" else host or "127.0.0.1", int(port), item))
    except StartError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def adopt(sockets: Sequence[socket.socket], workers: int, log: Log) -> Listeners:
    """Listeners made of sockets that somebody else has opened, and whose names are not ours to remove.

    All workers share them: which one takes a connection is whoever is first.
    """
    result = Listeners(tcp=[[] for _ in range(workers)])
    for sock in sockets:
        sock.setblocking(False)
        if sock.family == socket.AF_UNIX:
            result.unix.append(sock)
            name = os.fsdecode(sock.getsockname())
            log.log(
                f"listening on unix:{name.replace(chr(0), '@', 1)} (socket passed by the service manager)"
            )
            continue
        for number, group in enumerate(result.tcp):
            group.append(sock if number == 0 else sock.dup())
        log.log(f"listening on {_show(sock.getsockname()[:2])} (socket passed by the service manager)")
    return result


def _open_tcp(plan: ListenPlan, result: Listeners, log: Log) -> None:
    count = 0
    for name in plan.addresses:
        for family, address in _resolve(name, plan.port, log):
            try:
                _open_address(plan, family, address, result)
            except OSError as error:
                log.warning(f"cannot listen on {_show(address)}: {error.strerror}")
                continue
            log.log(f"listening on {_show(address)}")
            count += 1
    if not count:
        raise StartError("no usable listen_addr: " + ", ".join(plan.addresses))


def _resolve(name: str, port: int, log: Log) -> list[tuple[int, tuple[str, int]]]:
    host = None if name == "*" else name
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        log.warning(f"cannot resolve listen_addr '{name}': {error.strerror}")
        return []
    seen: list[tuple[int, tuple[str, int]]] = []
    for family, _type, _proto, _canon, address in found:
        if family in (socket.AF_INET, socket.AF_INET6):
            item = (int(family), (str(address[0]), int(address[1])))
            if item not in seen:
                seen.append(item)
    return seen


def _open_address(plan: ListenPlan, family: int, address: tuple[str, int], result: Listeners) -> None:
    several = plan.workers > 1
    if several and not plan.reuseport:
        # With SO_REUSEPORT the kernel lets us share the port with a stranger: ask without it first.
        with _tcp_socket(family) as probe:
            probe.bind(address)
            probe.listen(1)
    opened: list[socket.socket] = []
    try:
        for _ in range(plan.workers):
            sock = _tcp_socket(family)
            opened.append(sock)
            if several or plan.reuseport:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(address)
            if plan.defer_accept:
                _defer_accept(sock, True)
            sock.listen(plan.backlog)
            sock.setblocking(False)
    except OSError:
        for sock in opened:
            sock.close()
        raise
    for group, sock in zip(result.tcp, opened, strict=True):
        group.append(sock)


def _tcp_socket(family: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    except OSError:
        sock.close()
        raise
    return sock


def _defer_accept(sock: socket.socket, on: bool) -> None:
    option = getattr(socket, "TCP_DEFER_ACCEPT", None)
    if option is not None:
        # An optimisation only: a kernel that refuses it changes nothing that a client could see.
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, option, _DEFER_ACCEPT_SECONDS if on else 0)


def _open_unix(plan: ListenPlan, result: Listeners, log: Log) -> None:
    name = f"{plan.unix_dir}/.s.PGSQL.{plan.port}"
    abstract = name.startswith("@")
    address = "\0" + name[1:] if abstract else name
    _check_unix(name, address, abstract)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    result.unix.append(sock)
    try:
        sock.bind(address)
        if not abstract:
            result.unix_path = name
            Path(name).chmod(plan.unix_mode)
            if plan.unix_group:
                os.chown(name, -1, _group_id(plan.unix_group))
        sock.listen(plan.backlog)
        sock.setblocking(False)
    except OSError as error:
        raise StartError(f"cannot listen on unix:{name}: {error.strerror or error}") from error
    log.log(f"listening on unix:{name}")


def _check_unix(name: str, address: str, abstract: bool) -> None:
    """Refuse a name with a live listener or a lock file; remove a dead socket file."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        try:
            probe.connect(address)
        except (ConnectionRefusedError, FileNotFoundError):
            pass
        except TimeoutError as error:
            raise StartError(f"unix socket is in use, cannot continue: {name}") from error
        except OSError as error:
            raise StartError(f"cannot listen on unix:{name}: {error.strerror or error}") from error
        else:
            raise StartError(f"unix socket is in use, cannot continue: {name}")
    if abstract:
        return
    if Path(f"{name}.lock").exists():
        raise StartError(f"unix socket lock file exists, cannot continue: {name}.lock")
    try:
        if stat.S_ISSOCK(os.lstat(name).st_mode):
            Path(name).unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        raise StartError(f"cannot remove stale unix socket {name}: {error.strerror}") from error


def _group_id(name: str) -> int:
    if name.isdecimal():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError as error:
        raise StartError(f"could not find group '{name}' of unix_socket_group") from error


def _show(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _listen_http(host: str, port: int, item: str) -> socket.socket:
    try:
        if not host and socket.has_dualstack_ipv6():
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, address = found[0][0], found[0][4]
        return socket.create_server((str(address[0]), port), family=family)
    except OSError as error:
        raise StartError(f"cannot listen on http_listen {item}: {error.strerror or error}") from error
