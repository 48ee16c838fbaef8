"""Asks for the addresses of a name: the hosts file, the name servers with their TTL, and last the system's own way.

dnspython asks the name servers, because getaddrinfo() tells no TTL, takes no other resolv.conf and asks for no SOA.
Names that DNS does not know may still be known to the system (nsswitch.conf), unless resolv_conf is set.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SYSTEM_RESOLV_CONF = "/etc/resolv.conf"
_HOSTS = "/etc/hosts"
_SECONDS = 5.0
"""How long name servers may take for one name, all tries together."""

Addresses = list[tuple[int, str]]


class NoName(Exception):
    """The name has no address: somebody who must know has said so."""


class NoAnswer(Exception):
    """Nobody could tell whether the name has an address."""


@dataclass(slots=True)
class Found:
    """Addresses as (family, text), and how long they hold in seconds; None: nobody said."""

    addresses: Addresses
    ttl: float | None = None


class DnsLookup:
    """One question at a time for each caller; no cache."""

    def __init__(
        self, resolv_conf: str = "", lookup: Callable[..., Any] = socket.getaddrinfo, hosts_file: str = _HOSTS
    ) -> None:
        self._own_conf = bool(resolv_conf)
        self._path = resolv_conf or SYSTEM_RESOLV_CONF
        self._lookup = lookup
        self._hosts_file = hosts_file
        self._stamp: tuple[int, int, int] | None = None
        self._servers: Any = None
        # A pool of its own: a dead name server must not use up the threads that reloads need.
        self._pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="dns")

    async def addresses(self, name: str) -> Found:
        """Raises NoName and NoAnswer."""
        found = self._in_hosts_file(name)
        if found:
            return Found(found)
        servers = self._name_servers()
        problem: Exception = NoAnswer("no name server is configured")
        if servers is not None:
            try:
                return await self._ask_servers(servers, name)
            except (NoName, NoAnswer) as error:
                problem = error
        if self._own_conf:
            raise problem
        return Found(await self._ask_system(name, problem))

    async def serial(self, zone: str) -> int | None:
        """The serial number of a zone's SOA record, None when nobody tells."""
        import dns.exception
        import dns.name

        servers = self._name_servers()
        if servers is None:
            return None
        try:
            answer = await servers.resolve(dns.name.from_text(zone), "SOA", lifetime=_SECONDS)
        except (dns.exception.DNSException, OSError):
            return None
        return int(answer[0].serial)

    def close(self) -> None:
        """Let the threads end; a question that hangs does not hold up the exit."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _name_servers(self) -> Any:
        """dnspython's resolver, made anew when resolv.conf has changed; None when there is no such file."""
        import dns.asyncresolver
        import dns.exception

        try:
            found = Path(self._path).stat()
        except OSError:
            return None
        stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
        if stamp != self._stamp:
            try:
                self._servers = dns.asyncresolver.Resolver(self._path)
            except dns.exception.DNSException:
                self._servers = None
            self._stamp = stamp
        return self._servers

    async def _ask_servers(self, servers: Any, name: str) -> Found:
        kinds = ((socket.AF_INET, "A"), (socket.AF_INET6, "AAAA"))
        answers = await asyncio.gather(
            *(self._ask(servers, name, kind) for _, kind in kinds), return_exceptions=True
        )
        addresses: Addresses = []
        ttl: float | None = None
        for (family, _), answer in zip(kinds, answers, strict=True):
            if isinstance(answer, tuple):
                addresses += [
                    (int(family), text) for text in answer[0] if (int(family), text) not in addresses
                ]
                ttl = answer[1] if ttl is None else min(ttl, answer[1])
        if addresses:
            return Found(addresses, ttl)
        for answer in answers:
            if isinstance(answer, NoAnswer):
                raise answer
            if isinstance(answer, BaseException) and not isinstance(answer, NoName):
                raise answer
        raise NoName("name does not exist")

    @staticmethod
    async def _ask(servers: Any, name: str, kind: str) -> tuple[list[str], float]:
        import dns.exception
        import dns.resolver

        try:
            answer = await servers.resolve(name, kind, search=True, lifetime=_SECONDS)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer, dns.exception.SyntaxError) as error:
            raise NoName("name does not exist") from error
        except dns.resolver.LifetimeTimeout as error:
            raise NoAnswer("name servers do not answer") from error
        except (dns.exception.DNSException, OSError, UnicodeError) as error:
            raise NoAnswer(f"name servers cannot tell: {error}") from error
        # Name servers and the library turn the order: ours is the same each time, the engine goes round by itself.
        return sorted(record.address for record in answer), float(answer.chaining_result.minimum_ttl)

    async def _ask_system(self, name: str, problem: Exception) -> Addresses:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(
                self._pool, lambda: self._lookup(name, None, type=socket.SOCK_STREAM)
            )
        except socket.gaierror as error:
            if isinstance(problem, NoName):
                raise problem from error
            kind = NoName if error.errno == socket.EAI_NONAME else NoAnswer
            raise kind(error.strerror or str(error)) from error
        except (OSError, UnicodeError) as error:
            raise NoAnswer(str(error)) from error
        addresses: Addresses = []
        for family, _type, _proto, _canon, address in found:
            item = (int(family), str(address[0]))
            if item not in addresses:
                addresses.append(item)
        if not addresses:
            raise NoName("no address found")
        return addresses

    def _in_hosts_file(self, name: str) -> Addresses:
        """What /etc/hosts says. Read each time: it is small, and what it says is meant to hold at once."""
        wanted = name.rstrip(".").lower()
        addresses: Addresses = []
        with (
            contextlib.suppress(OSError),
            open(self._hosts_file, encoding="utf-8", errors="replace") as lines,
        ):
            for line in lines:
                address, *names = line.partition("#")[0].split() or [""]
                if (
                    wanted in (n.rstrip(".").lower() for n in names)
                    and (family := _family(address)) is not None
                ):
                    addresses.append((family, address))
        return addresses


def _family(address: str) -> int | None:
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            socket.inet_pton(family, address)
            return int(family)
    return None
