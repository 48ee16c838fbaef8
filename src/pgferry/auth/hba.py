"""Which HBA rule decides about a login, and what an ident map allows."""

from __future__ import annotations

import functools
import re
import socket
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from pgferry.config.rules import HbaRule, IdentLine, Names

NO_RULE: Final = "no authentication method is found"
REJECTED: Final = "login rejected"
PEER_FAILED: Final = "unix socket login rejected"
CERT_FAILED: Final = "certificate authentication failed"
_MAPPED_V4: Final = b"\0" * 10 + b"\xff\xff"
_LONGEST_NAME: Final = 256


class Login(NamedTuple):
    """What a rule looks at. address: packed, empty for unix sockets; physical: replication without a database."""

    database: str
    user: str
    address: bytes
    tls: bool = False
    physical: bool = False


def packed_address(host: str) -> bytes:
    """An IP address as rules have it; an IPv4 address that came in as IPv6 is IPv4."""
    try:
        return socket.inet_pton(socket.AF_INET, host)
    except OSError:
        packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    return packed[12:] if packed.startswith(_MAPPED_V4) else packed


def find_rule(rules: Iterable[HbaRule], login: Login) -> HbaRule | None:
    """The first rule that fits; None when there is none."""
    for rule in rules:
        if (
            _fits_connection(rule, login)
            and _has_database(rule.databases, login)
            and (rule.users.all or login.user in rule.users.names)
        ):
            return rule
    return None


def _fits_connection(rule: HbaRule, login: Login) -> bool:
    if rule.type == "local" or not login.address:
        return rule.type == "local" and not login.address
    if (rule.type == "hostssl" and not login.tls) or (rule.type == "hostnossl" and login.tls):
        return False
    if not rule.network:
        return True
    if len(rule.network) != len(login.address):
        return False
    return bytes(a & m for a, m in zip(login.address, rule.mask, strict=True)) == rule.network


def _has_database(names: Names, login: Login) -> bool:
    if login.physical:
        return names.replication  # there is no database: only the keyword means that, `all` does not
    return names.all or login.database in names.names or (names.same_user and login.database == login.user)


def may_be(lines: Sequence[IdentLine] | None, system: str, user: str) -> bool:
    """Whether who is `system` outside may be the database user. Without a map the names have to be the same."""
    if lines is None:
        return system == user
    return len(system) <= _LONGEST_NAME and any(_allows(line, system, user) for line in lines)


def _allows(line: IdentLine, system: str, user: str) -> bool:
    if not line.pattern:
        return line.system == system and line.user in ("", user)
    match = _compiled(line.system).search(system)
    if match is None:
        return False
    if not line.user:
        return True
    group = match.group(1) if match.re.groups else None
    return line.user.replace("\\1", group or "") == user


@functools.lru_cache(maxsize=1000)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)
