"""A PostgreSQL backend in Python without any SQL: answers protocol messages as the real one does.

It is both the server behind an engine under test and the oracle: the same client bytes given to one of these
directly must produce the same answers. Statements of its small language, separated by semicolons:

    SELECT word        one row with the word ($1 is the first parameter)
    ROWS n size        n rows of so many bytes
    BEGIN COMMIT ROLLBACK
    FAIL               an error
    SET "name"='value' a parameter, reported when it is one of PARAMETERS
    COPY IN            reads CopyData until CopyDone or CopyFail; a row with an x is an error
    COPY OUT n         n CopyData messages
    STREAM n           CopyData both ways, as in replication: n of them, then an echo of each until CopyDone; one with
                       an x is an error
    STREAM n END       the same, but the server says CopyDone first
    NOTICE word        a notice
    DISCARD ALL, DEALLOCATE ALL
    RESET ALL          the parameters of the startup packet
    RESET SESSION AUTHORIZATION, RESET ROLE
    ALTER TABLE        only its tag
"""

import re
import struct
from dataclasses import dataclass, field

from pgferry.protocol.reader import MessageReader
from support.wire import message

PARAMETERS = {
    "client_encoding": "UTF8",
    "DateStyle": "ISO, MDY",
    "TimeZone": "UTC",
    "standard_conforming_strings": "on",
    "application_name": "",
    "server_version": "18.0",
}
SQL = re.compile(rb"\s*(.*?)\s*(?:;|$)", re.DOTALL)
SET = re.compile(rb'SET "(\w+)"=\'(.*)\'$', re.DOTALL)


class Failure(Exception):
    """An ErrorResponse: SQLSTATE and text."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass
class Portal:
    """A bound statement; rows already given count for a limited Execute."""

    sql: bytes
    values: list[bytes]
    given: int = 0


@dataclass
class FakeBackend:
    """One session. `receive(bytes)` takes client bytes in any pieces and returns the answer so far."""

    pid: int = 1
    logged_in: bool = False
    status: str = "I"
    statements: dict[bytes, bytes] = field(default_factory=dict)
    portals: dict[bytes, Portal] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=lambda: dict(PARAMETERS))
    closed: bool = False
    executed: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._in = MessageReader(typed=self.logged_in, max_size=1 << 32)  # waits for whatever is announced
        self._out = bytearray()
        self._skipping = False
        self._copying: str | None = None  # "simple" or "extended" while in copy-in mode
        self._copied = 0
        self._queue: list[bytes] = []  # the statements behind a simple COPY IN

    @property
    def names(self) -> set[bytes]:
        """The named statements it has."""
        return set(self.statements) - {b""}

    def receive(self, data: bytes) -> bytes:
        """Take bytes; everything there is to answer to them."""
        self._in.feed(data)
        while not self.closed and (found := self._in.take()) is not None:
            kind, body = found
            if self.logged_in:
                self._message(kind.decode("latin-1"), body)
            else:
                self._in.typed = True
                self._greet(body[4:])
        out = bytes(self._out)
        self._out.clear()
        return out

    @property
    def waiting_for_more(self) -> bool:
        """Whether a message is incomplete."""
        return self._in.pending > 0

    def _greet(self, packet: bytes) -> None:
        items = packet.split(b"\0")
        given = {k.decode().lower(): v.decode() for k, v in zip(items[::2], items[1::2], strict=False) if k}
        for name in PARAMETERS:
            self.parameters[name] = given.get(name.lower(), self.parameters[name])
        self._initial = dict(self.parameters)
        self._say(b"R", b"\0\0\0\0")
        for name, value in self.parameters.items():
            self._say(b"S", f"{name}\0{value}\0".encode())
        self._say(b"K", struct.pack("!II", self.pid, 12345))
        self._say(b"Z", b"I")
        self.logged_in = True

    def _say(self, kind: bytes, body: bytes = b"") -> None:
        self._out += message(kind, body)

    def _message(self, kind: str, body: bytes) -> None:
        if self._copying:
            self._copy_message(kind, body)
            return
        if kind == "X":
            self.closed = True
        elif kind == "S":
            self._skipping = False
            self._sync()
        elif self._skipping or kind in "dcfH":
            return
        elif kind == "Q":
            self._query(body)
        elif kind == "F":
            self._function()
        else:
            try:
                self._extended(kind, body)
            except Failure as e:
                self._fail(e)
                self._skipping = True

    def _fail(self, e: Failure) -> None:
        fields = {"S": "ERROR", "V": "ERROR", "C": e.code, "M": str(e)}
        self._say(b"E", b"".join(f"{k}{v}\0".encode() for k, v in fields.items()) + b"\0")
        if self.status == "T":
            self.status = "E"

    def _sync(self) -> None:
        if self.status == "I":
            self.portals.clear()
        self._say(b"Z", self.status.encode())

    # --- simple

    def _query(self, body: bytes) -> None:
        self.statements.pop(b"", None)
        self.portals.pop(b"", None)
        parts = [p for p in SQL.findall(body[:-1]) if p]
        if not parts:
            self._say(b"I")
            self._sync()
            return
        self._queue = parts
        self._run_queue()

    def _run_queue(self) -> None:
        try:
            while self._queue:
                sql = self._queue.pop(0)
                if sql == b"COPY IN":
                    self._check(sql)
                    self._start_copy("simple")
                    return
                if sql.startswith(b"STREAM "):
                    self._start_stream(sql.split(b" "))
                    return
                self._run(Portal(sql, []), 0, describe=True)
        except Failure as e:
            self._queue.clear()
            self._fail(e)
        self._sync()

    def _function(self) -> None:
        try:
            self._check(b"")
            self._say(b"V", struct.pack("!i", 2) + b"42")
        except Failure as e:
            self._fail(e)
        self._sync()

    # --- extended

    def _extended(self, kind: str, body: bytes) -> None:
        if kind == "P":
            name, sql, _ = body.split(b"\0", 2)
            if not name:
                self.statements.pop(b"", None)
            self._check(sql)
            if name in self.statements:
                raise Failure("42P05", f'prepared statement "{name.decode()}" already exists')
            if sql == b"SYNTAX":
                raise Failure("42601", 'syntax error at or near "SYNTAX"')
            self.statements[name] = sql
            self._say(b"1")
        elif kind == "B":
            portal, name, rest = body.split(b"\0", 2)
            sql = self._statement(name)
            self._check(sql)
            self.portals[portal] = Portal(sql, _values(rest))
            self._say(b"2")
        elif kind == "D":
            self._describe(body)
        elif kind == "E":
            name, rest = body.split(b"\0", 1)
            found = self.portals.get(name)
            if found is None:
                raise Failure("34000", f'portal "{name.decode()}" does not exist')
            self._check(found.sql)
            if found.sql == b"COPY IN":
                self._start_copy("extended")
                return
            self._run(found, struct.unpack("!I", rest)[0], describe=False)
        elif kind == "C":
            names: dict[bytes, object] = self.statements if body[:1] == b"S" else self.portals  # type: ignore[assignment]
            names.pop(body[1:-1], None)
            self._say(b"3")

    def _statement(self, name: bytes) -> bytes:
        found = self.statements.get(name)
        if found is None:
            what = "unnamed prepared statement" if not name else f'prepared statement "{name.decode()}"'
            raise Failure("26000", f"{what} does not exist")
        return found

    def _describe(self, body: bytes) -> None:
        if body[:1] == b"S":
            sql = self._statement(body[1:-1])
            self._check(sql)
            self._say(b"t", struct.pack("!hI", 1, 25) if b"$1" in sql else b"\0\0")
        else:
            portal = self.portals.get(body[1:-1])
            if portal is None:
                raise Failure("34000", f'portal "{body[1:-1].decode()}" does not exist')
            sql = portal.sql
            self._check(sql)
        self._columns() if sql.startswith((b"SELECT", b"ROWS")) else self._say(b"n")

    # --- statements

    def _check(self, sql: bytes) -> None:
        if self.status == "E" and sql not in (b"COMMIT", b"ROLLBACK"):
            raise Failure(
                "25P02", "current transaction is aborted, commands ignored until end of transaction block"
            )

    def _columns(self) -> None:
        self._say(b"T", struct.pack("!h", 1) + b"c\0" + struct.pack("!IhIhih", 0, 0, 25, -1, -1, 0))

    def _run(self, portal: Portal, limit: int, describe: bool) -> None:
        sql = portal.sql
        self._check(sql)
        self.executed.append(sql)
        if sql.startswith((b"SELECT ", b"ROWS ")):
            if describe:
                self._columns()
            self._rows(portal, limit)
        elif sql in (b"BEGIN", b"COMMIT", b"ROLLBACK"):
            tag = b"ROLLBACK" if sql == b"COMMIT" and self.status == "E" else sql
            self.status = "T" if sql == b"BEGIN" else "I"
            self._say(b"C", tag + b"\0")
        elif sql.startswith(b"SET"):
            self._set(sql)
        elif sql.startswith(b"COPY OUT "):
            self._say(b"H", b"\0\0\1\0\0")
            for i in range(int(sql[9:])):
                self._say(b"d", b"line %d\n" % i)
            self._say(b"c")
            self._say(b"C", b"COPY %s\0" % sql[9:])
        elif sql.startswith(b"NOTICE "):
            self._say(b"N", b"SNOTICE\0VNOTICE\0C00000\0M" + sql[7:] + b"\0\0")
            self._say(b"C", b"DO\0")
        elif sql in (b"DISCARD ALL", b"DEALLOCATE ALL"):
            if sql == b"DISCARD ALL":
                for name, value in self._initial.items():
                    self._change(name, value)
            self.statements = {k: v for k, v in self.statements.items() if not k}  # the unnamed one stays
            if sql == b"DISCARD ALL":
                self.portals.clear()
            self._say(b"C", sql + b"\0")
        elif sql in (b"RESET ALL", b"RESET ROLE", b"RESET SESSION AUTHORIZATION"):
            if sql == b"RESET ALL":
                for name, value in self._initial.items():
                    self._change(name, value)
            self._say(b"C", b"RESET\0")
        elif sql == b"ALTER TABLE":
            self._say(b"C", b"ALTER TABLE\0")
        elif sql == b"FAIL":
            raise Failure("22012", "division by zero")
        else:
            raise Failure("42601", f'syntax error at or near "{sql[:20].decode(errors="replace")}"')

    def _rows(self, portal: Portal, limit: int) -> None:
        words = portal.sql.split(b" ")
        count, word = 1, words[1]
        if words[0] == b"ROWS":
            count, word = int(words[1]), b"r" * int(words[2])
        elif word == b"$1":
            word = portal.values[0] if portal.values else b"null"
        elif word == b"PID":
            word = b"%d" % self.pid
        row = message(b"D", struct.pack("!hI", 1, len(word)) + word)
        end = count if limit == 0 else min(count, portal.given + limit)
        self._out += row * (end - portal.given)
        given, portal.given = end - portal.given, end
        if (limit and end - count == 0 and given < limit) or limit == 0:
            self._say(b"C", b"SELECT %d\0" % given)
        else:
            self._say(b"s")

    def _set(self, sql: bytes) -> None:
        match = SET.match(sql)
        if match is None:
            raise Failure("42601", "syntax error at or near SET")
        name, value = match[1].decode(), match[2].decode()
        if value == "bad":
            raise Failure("22023", f'invalid value for parameter "{name}": "bad"')
        self._change(name, value)
        self._say(b"C", b"SET\0")

    def _change(self, name: str, value: str) -> None:
        if name in self.parameters and self.parameters[name] != value:
            self.parameters[name] = value
            self._say(b"S", f"{name}\0{value}\0".encode())

    @property
    def copying(self) -> bool:
        """Whether it reads COPY data."""
        return self._copying is not None

    # --- COPY

    def _start_copy(self, how: str) -> None:
        self._copying = how
        self._copied = 0
        self._say(b"G", b"\0\0\1\0\0")

    def _start_stream(self, words: list[bytes]) -> None:
        self._copying = "both" if len(words) == 2 else "ended"
        self._say(b"W", b"\0\0\0")
        for i in range(int(words[1])):
            self._say(b"d", b"change %d\n" % i)
        if self._copying == "ended":
            self._say(b"c")

    def _stream_message(self, kind: str, body: bytes) -> None:
        if kind == "d" and b"x" not in body:
            if self._copying == "both":
                self._say(b"d", body)
            return
        how, self._copying = self._copying, None
        if kind == "d":
            self._fail(Failure("08P01", "that was no feedback"))
        elif kind == "c":
            if how == "both":
                self._say(b"c")
            self._say(b"C", b"COPY 0\0")
            self._columns()
            self._out += message(b"D", struct.pack("!hI", 1, 1) + b"2")
            self._say(b"C", b"START_STREAMING\0")
        self.closed = kind == "X"
        self._sync()

    def _copy_message(self, kind: str, body: bytes) -> None:
        if self._copying in ("both", "ended"):
            self._stream_message(kind, body)
            return
        if kind in "HS":
            return
        how = self._copying
        if kind == "d" and b"x" not in body:
            self._copied += 1
            return
        self._copying = None
        if kind == "c":
            self._say(b"C", b"COPY %d\0" % self._copied)
            if how == "simple":
                self._run_queue()
            return
        failure = Failure("22P04", "extra data after last expected column")
        if kind == "f":
            failure = Failure("57014", f"COPY from stdin failed: {body[:-1].decode(errors='replace')}")
        elif kind == "X":
            self.closed = True
            return
        elif kind != "d":
            failure = Failure("08P01", f"unexpected message type 0x{ord(kind):02X} during COPY from stdin")
        self._fail(failure)
        if how == "simple":
            self._queue.clear()
            self._sync()
        else:
            self._skipping = True


def _values(rest: bytes) -> list[bytes]:
    """The parameters of a Bind, from behind the two names."""
    (formats,) = struct.unpack_from("!h", rest)
    at = 2 + 2 * formats
    (count,) = struct.unpack_from("!h", rest, at)
    at += 2
    values = []
    for _ in range(count):
        (size,) = struct.unpack_from("!i", rest, at)
        at += 4
        values.append(rest[at : at + max(size, 0)])
        at += max(size, 0)
    return values
