"""HBA rules and ident maps as structs: what the files say, in the form that workers get."""

from __future__ import annotations

import msgspec


class LdapOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a directory is asked for a user's password; see config.ldap for the names in files."""

    servers: tuple[str, ...] = ()
    port: int = 0
    scheme: str = "ldap"
    starttls: bool = False
    prefix: str = ""
    suffix: str = ""
    base: str = ""
    bind_dn: str = ""
    bind_password: str = ""
    attribute: str = ""
    filter: str = ""
    scope: str = "sub"

    def __repr__(self) -> str:
        return f"LdapOptions(servers={self.servers!r}, base={self.base!r})"

    @property
    def searches(self) -> bool:
        """Whether the user's entry is looked for; else its name is built from prefix and suffix."""
        return bool(self.base)


class Names(msgspec.Struct, frozen=True, kw_only=True):
    """A database or user column: keywords that stood there without quotes, and names."""

    all: bool = False
    same_user: bool = False
    replication: bool = False
    names: tuple[str, ...] = ()


class HbaRule(msgspec.Struct, frozen=True, kw_only=True):
    """One line of an HBA file. network and mask are packed addresses; empty: any address of any kind."""

    file: str
    line: int
    type: str
    databases: Names
    users: Names
    network: bytes = b""
    mask: bytes = b""
    method: str
    map: str = ""
    ldap: LdapOptions | None = None


class IdentLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of an ident map. system is a regular expression when `pattern`; user is empty for `all`."""

    system: str
    user: str = ""
    pattern: bool = False
