"""Writes down what a pooler answers, step by step, in lines that can be compared with another pooler's."""

import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence

from compat.twins import Twin
from pgferry.protocol import backend
from support.wire import Message, Wire, query, startup

Record = dict[str, list[str]]

# Columns that tell of one process, one connection or one moment.
_MOMENT = re.compile(
    r"port|local_port|connect_time|request_time|wait|wait_us|maxwait|maxwait_us|ptr|link|remote_pid|id|"
    r".*_(?:pos|avail|remain|received|sent|bytes|time|recv)|avg_.*|size|used|free|memtotal|ttl|addrs"
)
PATIENCE_S = 4.0
_LATEST = 0.7  # seconds, the most that is waited for a line of the log: pgferry's workers write in bulk
_MOMENT_S = 0.02  # within which the other lines of a command come
_BULK_S = 0.2  # within which pgferry's workers have written what they have


class Witness:
    """One run of a scenario on one pooler. `other` is the record of the run before, on the other pooler."""

    def __init__(self, twin: Twin, other: Record | None = None) -> None:
        self.twin = twin
        self.record: Record = {}
        self._other = other
        self._mark = 0
        self._noted = True  # of the last command, what the log says

    # --- what can be done

    def open(
        self, user: str, database: str, secret: str = "", *, timeout: float = PATIENCE_S, **parameters: str
    ) -> Wire:
        """A client that is logged in, without being written down."""
        return Wire.login((self.twin.host, self.twin.port), user, database, secret, timeout, **parameters)

    def login(self, step: str, user: str, database: str, secret: str = "", **parameters: str) -> None:
        """A client that logs in, asks for nothing and says goodbye: all it hears, and the log."""
        self.packet(step, startup(user, database, **parameters), user=user, secret=secret)

    def packet(self, step: str, *packets: bytes, user: str = "", secret: str = "") -> None:
        """A client that begins with these bytes, and answers when it is asked for a password."""
        start = self.log_end()
        with Heard((self.twin.host, self.twin.port)) as wire:
            port = port_of(wire)
            wire.send(*packets)
            try:
                wire.authenticate(user, secret)
                wire.send(b"X\0\0\0\4")
            except ConnectionError:
                wire.until_end()
            except (EOFError, TimeoutError) as error:
                wire.lines.append(type(error).__name__)
        self.note(step, parameters_sorted(wire.lines))
        self.note_client(f"{step}: log", port, start)

    def console(self, wire: Wire, *commands: str, log: bool = False) -> None:
        """Console commands, one step for each."""
        for command in commands:
            self.ask(wire, command, command, log=log)

    def ask(self, wire: Wire, step: str, *texts: str, log: bool = False) -> None:
        """Queries one after the other, and their whole answers as one step."""
        if log and not self._noted:
            time.sleep(_BULK_S)  # what the commands before have caused is not of this step
        self._noted = log
        self._mark = self.log_end()
        lines: list[str] = []
        for text in texts:
            lines += self.answer(wire, query(text))
        self.note(step, lines)
        if log:
            self.note_log(f"{step}: log")

    def send(self, wire: Wire, step: str, *packets: bytes, answers: int = 1) -> None:
        """Any messages, and what comes up to the last ReadyForQuery or the end."""
        lines = self.answer(wire, *packets)
        self.note(step, [*lines, *(line for _ in range(answers - 1) for line in told(wire))])

    def answer(self, wire: Wire, *packets: bytes) -> list[str]:
        """What comes up to ReadyForQuery or the end after these messages."""
        try:
            wire.send(*packets)
        except OSError:
            return ["closed before"]
        return told(wire)

    # --- writing down

    def note(self, step: str, lines: Iterable[str]) -> None:
        """Add a step; one that is done again gets a number."""
        name, number = step, 1
        while name in self.record:
            number += 1
            name = f"{step} ({number})"
        self.record[name] = [self.twin.masked(line) for line in lines]

    def skip_log(self) -> None:
        """What is in the log so far, or comes in a moment, belongs to no step."""
        time.sleep(_MOMENT_S)
        self._mark = self.twin.log_lines(self._mark)[1]

    def log_end(self) -> int:
        """Where the log ends now."""
        return self.twin.log_lines(self._mark)[1]

    def note_client(self, step: str, port: int, start: int = 0) -> None:
        """Add what the log says from `start` on about the client with this port, up to its end."""
        limit = time.monotonic() + _LATEST
        while True:
            lines, _ = self.twin.log_lines(start, port)
            if any("closing because" in line for line in lines) or time.monotonic() > limit:
                break
            time.sleep(0.01)
        self.note(step, sorted(lines))

    def note_log(self, step: str, until: str = "") -> None:
        """Add the new lines of the log that are about no connection; `until`: a text that will come."""
        wanted = Counter((self._other or {}).get(step, []))
        limit = time.monotonic() + _LATEST
        time.sleep(_MOMENT_S)
        while True:
            lines, end = self.twin.log_lines(self._mark)
            told = not wanted - Counter(lines) and any(
                until in line for line in [*lines, "" if until else "-"]
            )
            if told or (not until and not wanted) or time.monotonic() > limit:
                break
            time.sleep(0.01)
        self._mark = end
        self.note(step, sorted(lines))


class Heard(Wire):
    """A connection that keeps all it hears, as lines."""

    def __init__(self, address: tuple[str, int], timeout: float = PATIENCE_S) -> None:
        super().__init__(address, timeout)
        self.lines: list[str] = []
        self._columns: list[str] = []

    def recv(self) -> Message:
        got = super().recv()
        self.lines += lines_of(got, self._columns)
        return got

    def until_end(self) -> None:
        """Everything up to the end of the connection."""
        try:
            while True:
                self.recv()
        except (EOFError, ConnectionResetError):
            self.lines.append("the end")
        except TimeoutError:
            self.lines.append("still open")


def port_of(wire: Wire) -> int:
    """The client's own port, by which the log names it."""
    return int(wire.sock.getsockname()[1])


def told(wire: Wire) -> list[str]:
    """What comes up to ReadyForQuery, or up to the end of the connection."""
    lines: list[str] = []
    columns: list[str] = []
    try:
        while True:
            got = wire.recv()
            lines += lines_of(got, columns)
            if got.type == "Z":
                return _sorted_rows(lines)
    except (EOFError, ConnectionResetError):
        return [*lines, "the end"]
    except TimeoutError:
        return [*lines, "nothing more"]


def lines_of(got: Message, columns: list[str]) -> list[str]:
    """One message as lines. `columns` holds the names of the result's columns from its head on."""
    if got.type == "T":
        described = list(_columns(got.body))
        columns[:] = [name for name, _ in described]
        return [f"column {i} {name} {kind}" for i, (name, kind) in enumerate(described, 1)]
    if got.type == "D":
        if "avg_bind_count" in columns and "total_bind_count" not in columns:
            columns[1:] = ["avg_"] * (len(columns) - 1)
        names = [got.row[0].decode(), "value"] if columns == ["name", "value"] and got.row[0] else columns
        if names != columns and _MOMENT.fullmatch(names[0]):
            names[1] = "avg_"
        values = [_value(name, value) for name, value in zip(names, got.row, strict=False)]
        return ["row " + " | ".join(values)]
    if got.type in "EN":
        kind = "error" if got.type == "E" else "notice"
        return [f"{kind} {k} {line}" for k, v in sorted(got.fields.items()) for line in v.split("\n")]
    if got.type == "S":
        return ["parameter {} = {}".format(*got.parameter)]
    if got.type == "R":
        code = int.from_bytes(got.body[:4], "big")
        return [f"authentication {code}" + (f" {got.body[4:]!r}" if code == 10 else "")]
    if got.type == "K":
        return [f"key of {len(got.body) - 4} bytes"]
    if got.type in "CZ":
        return [f"{'tag' if got.type == 'C' else 'ready'} {got.text}"]
    return [f"message {got.type}" + (f" {got.body!r}" if got.type != "V" else "")]


def parameters_sorted(lines: list[str]) -> list[str]:
    """ParameterStatus messages in alphabetical order, behind the rest: theirs means nothing."""
    return sorted(lines, key=lambda line: line if line.startswith("parameter") else "")


def _columns(body: bytes) -> Iterable[tuple[str, str]]:
    for c in backend.RowDescription.read(body).columns:
        kind = f"type {c.type_oid} size {c.type_size} modifier {c.type_modifier} format {c.format}"
        yield c.name, f"{kind} table {c.table_oid} {c.column}"


def _value(name: str, value: bytes | None) -> str:
    if value is None:
        return "NULL"
    if _MOMENT.fullmatch(name):
        return "*"
    return value.decode(errors="replace")


def _sorted_rows(lines: Sequence[str]) -> list[str]:
    """Rows in alphabetical order, where the first one stood: the order of SHOW follows addresses in memory."""
    rows = sorted(line for line in lines if line.startswith("row "))
    first = next((i for i, line in enumerate(lines) if line.startswith("row ")), 0)
    rest = [line for line in lines if not line.startswith("row ")]
    return [*rest[:first], *rows, *rest[first:]]
