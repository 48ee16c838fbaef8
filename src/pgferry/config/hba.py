"""HBA files (auth_hba_file): who may log in from where, and how. Rules: COMPAT.md 2.6.

A line that cannot be read is an error for the whole file. PgBouncer skips it, so that a mistyped `reject` opens what it
was to close.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from pathlib import Path

from pgferry.config.ini import read_text
from pgferry.config.kinds import BadValue
from pgferry.config.ldap import parse_ldap
from pgferry.config.problems import Problem, nearest_name
from pgferry.config.rules import HbaRule, LdapOptions, Names
from pgferry.config.tokens import BadLine, Token, fields, with_files

TYPES = ("local", "host", "hostssl", "hostnossl")
METHODS = ("trust", "reject", "md5", "scram-sha-256", "password", "peer", "cert", "ldap", "pam")
SETTING = "auth_hba_file"
_MAPPED = ("peer", "cert")
_UNSUPPORTED_TYPES = ("hostgssenc", "hostnogssenc")
_GROUPS = ("samerole", "samegroup")
_NETS = ("samehost", "samenet")
_ADDRESS = "all, or an address with /bits or with a mask in the next column"


class HbaReader:
    """Reads one file; `problems` and `warnings` say what is wrong with it."""

    def __init__(self, file: str, maps: Collection[str]) -> None:
        self._file = file
        self._maps = maps
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []

    def load(self) -> tuple[HbaRule, ...]:
        """The rules of the file, in order."""
        try:
            return self.parse(read_text(Path(self._file)))
        except OSError as error:
            self._report(0, f"cannot read the HBA file: {error.strerror or error}")
        except UnicodeDecodeError as error:
            self._report(error.object[: error.start].count(b"\n") + 1, "the line is not valid UTF-8")
        except ValueError:
            self._report(0, "the path holds a zero byte")
        return ()

    def parse(self, text: str) -> tuple[HbaRule, ...]:
        """The rules in a file's text."""
        rules = []
        for number, line in enumerate(text.split("\n"), 1):
            try:
                rule = self._rule(number, line)
            except BadLine as bad:
                file, at = bad.place or (self._file, number)
                message = bad.message if bad.place is None else f"{bad.message} (from {self._file}:{number})"
                self.problems.append(Problem(file, at, SETTING, message, bad.expected))
                continue
            if rule is not None:
                rules.append(rule)
        if not rules and not self.problems:
            self.warnings.append(Problem(self._file, 0, SETTING, "there is no rule, so nobody can log in"))
        return tuple(rules)

    def _rule(self, number: int, line: str) -> HbaRule | None:
        if "\0" in line:
            raise BadLine("the line holds a zero byte")
        columns = fields(line, most=6)
        if not columns:
            return None
        kind = _keyword(columns[0][0], "connection type", TYPES, _UNSUPPORTED_TYPES)
        if len(columns) < 3:
            raise BadLine("the line ends early", "TYPE DATABASE USER ADDRESS METHOD")
        databases = self._names(columns[1][0], "database")
        users = self._names(columns[2][0], "user")
        network = mask = b""
        at = 3
        if kind != "local":
            network, mask, at = self._address(number, [words for words, _end in columns[3:5]])
            at += 3
        if len(columns) <= at:
            raise BadLine("the method is missing", ", ".join(METHODS))
        method = _keyword(
            columns[at][0], "method", METHODS, ("ident", "gss", "sspi", "radius", "bsd", "oauth")
        )
        if method == "peer" and kind != "local":
            raise BadLine("peer works for unix sockets only", "a line that begins with local")
        if method == "cert" and kind in ("local", "hostnossl"):
            raise BadLine("cert works with TLS only", "a line that begins with hostssl")
        map_name, ldap = self._options(method, line[columns[at][1] :])
        return HbaRule(
            file=self._file,
            line=number,
            type=kind,
            databases=databases,
            users=users,
            network=network,
            mask=mask,
            method=method,
            map=map_name,
            ldap=ldap,
        )

    def _names(self, words: list[Token], what: str) -> Names:
        names: list[str] = []
        keywords: set[str] = set()
        for word in with_files(words, self._file):
            if word.quoted:
                names.append(word.text)
            elif word.text in ("all", "replication") or (word.text == "sameuser" and what == "database"):
                keywords.add(word.text)
            elif word.text in _GROUPS or word.text.startswith("+"):
                raise BadLine(f"{word.text}: pgferry does not know who is in a group", "names, or @file")
            elif word.text.startswith("/"):
                raise BadLine(f"{word.text}: regular expressions are not supported here", "names, or @file")
            else:
                names.append(word.text)
        return Names(
            all="all" in keywords,
            same_user="sameuser" in keywords,
            replication="replication" in keywords,
            names=tuple(dict.fromkeys(names)),
        )

    def _address(self, number: int, columns: list[list[Token]]) -> tuple[bytes, bytes, int]:
        """Network, mask, and how many columns they take."""
        if not columns or len(columns[0]) != 1:
            raise BadLine("the address is missing" if not columns else "an address is no list", _ADDRESS)
        word = columns[0][0]
        if word.text == "all" and not word.quoted:
            return b"", b"", 1
        if word.text in _NETS and not word.quoted:
            raise BadLine(f"{word.text} is not supported", _ADDRESS)
        address, slash, bits = word.text.partition("/")
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            raise BadLine("no IP address (host names are not supported)", _ADDRESS) from None
        width = ip.max_prefixlen
        if slash:
            if not (bits.isascii() and bits.isdigit() and len(bits) <= 3 and int(bits) <= width):
                raise BadLine("no number of bits behind the /", f"0 to {width}")
            mask = ((1 << width) - (1 << (width - int(bits)))).to_bytes(width // 8, "big")
            used = 1
        else:
            mask = _mask(columns[1:], width)
            used = 2
        packed = ip.packed
        network = bytes(a & b for a, b in zip(packed, mask, strict=True))
        if network != packed:
            shown = ipaddress.ip_address(network)
            self.warnings.append(
                Problem(self._file, number, SETTING, "the address has bits outside its mask", f"{shown}")
            )
        return network, mask, used

    def _options(self, method: str, rest: str) -> tuple[str, LdapOptions | None]:
        if method == "ldap":
            try:
                return "", parse_ldap(rest, comments=True)
            except BadValue as bad:
                raise BadLine(bad.message, bad.expected) from None
        map_name = ""
        for words, _end in fields(rest):
            key, equals, value = words[0].text.partition("=")
            if len(words) != 1 or not equals or key != "map":
                raise BadLine("unknown option", f"map=name, for {' and '.join(_MAPPED)}")
            if method not in _MAPPED:
                raise BadLine(f"map means nothing to {method}", f"{' or '.join(_MAPPED)}")
            if value not in self._maps:
                raise BadLine(
                    f"there is no map {value!r} in auth_ident_file", nearest_name(value, self._maps)
                )
            map_name = value
        return map_name, None

    def _report(self, line: int, message: str) -> None:
        self.problems.append(Problem(self._file, line, SETTING, message))


def _keyword(words: list[Token], what: str, known: tuple[str, ...], unsupported: tuple[str, ...]) -> str:
    word = words[0]
    if len(words) == 1 and not word.quoted and word.text in known:
        return word.text
    nearest = nearest_name(word.text, known) if len(word.text) <= 32 else ""
    expected = f"{', '.join(known)}; did you mean {nearest}?" if nearest else ", ".join(known)
    if word.text in unsupported:
        raise BadLine(f"{what} {word.text} is not supported", expected)
    raise BadLine(f"unknown {what}", expected)


def _mask(columns: list[list[Token]], width: int) -> bytes:
    text = columns[0][0].text if columns else ""
    try:
        mask = ipaddress.ip_address(text)
    except ValueError:
        raise BadLine("the address has neither /bits nor a mask", _ADDRESS) from None
    number = int(mask)
    if mask.max_prefixlen != width or (
        (number | (number - 1)) & ((1 << width) - 1) != (1 << width) - 1 and number
    ):
        raise BadLine("the mask does not fit the address", _ADDRESS)
    return mask.packed
