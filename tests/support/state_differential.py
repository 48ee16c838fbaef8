"""Plays session-state programs directly and through pgferry, and compares every answer.

Notifications are compared apart from the rest, in their order within each channel: through pgferry they may arrive
a little later than directly. Server deaths excuse an error, never an answer that is another one.
"""

import random
import re
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import msgspec

from pgferry.client import Address
from pgferry.embedded import Cluster
from pgferry.protocol import backend
from support import state_schema, wire
from support.differential import Difference, Hang, Player, Transcript, compare, play
from support.scripts import Script, Step
from support.state_programs import LATER, NOTES
from support.state_values import question
from support.wire import Message

_PLACE = re.compile(rb"(?<=\0)[Pp][0-9]+\0")
_TEXT = (
    rb"(?:E?'(?:[^']|'')*'|pg_catalog\.convert_from\(pg_catalog\.decode\('[0-9a-f]*','hex'\),[a-z_.]+\(\)\))"
)
_CALL = rb"pg_catalog\.set_config\(" + _TEXT + rb", ?" + _TEXT + rb",false\) IS NULL"
_INSERT = re.compile(rb";SELECT " + _CALL + rb"(?:," + _CALL + rb")*")
_VIEW = re.compile(
    rb"\(SELECT CASE WHEN p\.from_sql .*? OR m\.own IS NOT NULL\)(?: AS pg_prepared_statements)?"
    rb"|pg_catalog\.pg_prepared_statements"
)
_NAME = re.compile(
    rb'((?:DEALLOCATE|PREPARE|EXECUTE) )(?:"PGFERRY_[0-9]+"|s[123]\b)'
)  # in SQL, of one of the protocol
_INSERTED = (b"pg_catalog.set_config(", b"pg_prepared_statement", b"DEALLOCATE ", b"EXECUTE ")
PATIENCE = 3.0  # seconds for a notification to arrive
DEATH = ("57P", "08", "58")  # SQLSTATEs that say that a server went away


class StatePlayer(Player):
    """Logs in without blocking (all servers may be pinned), and waits for notifications where the program does."""

    def __init__(
        self,
        script: Script,
        address: Address,
        database: str,
        rng: random.Random,
        expected: Sequence[int] | None = None,
    ) -> None:
        super().__init__(script, address, database, rng)
        self.expected = expected
        self.notes: list[int] = []  # how many notifications had come at each NOTES step
        self.heard_notes = 0
        self.logged_in = False
        self.deadline = 0.0
        self.owed = 1

    def login(self, address: Address, database: str) -> wire.Wire:
        connection = wire.Wire(address, 30)
        connection.send(wire.startup(database=database, **self.script.parameters))  # type: ignore[arg-type]
        return connection

    def _on_message(self, got: Message) -> None:
        if got.type == "A":
            self.heard_notes += 1
        if self.logged_in or got.type == "E":
            super()._on_message(got)
        elif got.type == "S":
            self.heard.parameters.update([got.parameter])
        elif got.type == "Z":
            self.logged_in = True
            self.owed = self.seen = 0

    def ready(self) -> bool:
        if self.step.wait != NOTES:
            return super().ready()
        at = len(self.notes) - 1
        if self.expected is None or at >= len(self.expected):
            return True
        if time.monotonic() > self.deadline:
            self.expected = None  # one is lost, which will be seen; no need to wait again
        return self.expected is None or self.heard_notes >= self.expected[at]

    def _start(self, step: Step) -> None:
        if step.wait == NOTES:
            self.notes.append(self.heard_notes)
            self.deadline = time.monotonic() + PATIENCE
        super()._start(step)


@dataclass(slots=True)
class Run:
    """What everybody heard in one run."""

    heard: list[Transcript]
    notes: dict[str, list[int]]
    noise: list[Player]


def run(
    scripts: Sequence[Script],
    address: Address,
    database: str,
    seed: int,
    noise: Sequence[Script] = (),
    notes: Mapping[str, Sequence[int]] | None = None,
) -> Run:
    """Play all scripts; `notes`: the number of notifications to wait for, from the direct run."""
    players: list[StatePlayer] = []

    def make(script: Script, address: Address, database: str, rng: random.Random) -> Player:
        expected = None if notes is None else notes.get(script.tag, ())
        players.append(StatePlayer(script, address, database, rng, expected))
        return players[-1]

    heard = play(scripts, address, database, seed, noise=noise, make=make)
    noisy = {script.tag for script in noise}
    return Run(heard, {p.script.tag: p.notes for p in players}, [p for p in players if p.script.tag in noisy])


# --- noise


def noise_scripts() -> list[Script]:
    """Clients without any state that look at their session with every query."""
    made = []
    for number, (user, about) in enumerate(
        (("postgres", "all"), (state_schema.APP, "all"), ("postgres", "path"))
    ):
        tag = f"<noise{number}>"
        text = question(tag, about)
        steps = [
            Step("noise", wire.query(text), 1),
            Step("noise", wire.parse(text) + wire.bind() + wire.execute() + wire.sync(), 1),
            Step("noise", wire.query("SHOW search_path"), 1),
        ]
        made.append(Script(tag, {"user": user, "application_name": "noise"}, steps))
    return made


def check_noise(expected: Mapping[str, list[Message]], noisy: Sequence[Player]) -> None:
    """Difference when a client without state saw anything but its own session."""
    for player in noisy:
        right = expected[player.script.tag]
        for i, got in enumerate(player.heard.messages):
            want = right[i % len(right)]
            if got != want:
                raise Difference(f"{player.script.tag} is without state:\n  right: {want}\n  got:   {got}")


def quiet_answers(address: Address, database: str) -> dict[str, list[Message]]:
    """What the noise is answered on a direct connection, once round."""
    answers: dict[str, list[Message]] = {}
    for script in noise_scripts():
        with wire.Wire.login(address, database=database, **script.parameters) as connection:  # type: ignore[arg-type]
            answers[script.tag] = []
            for step in script.steps:
                connection.send(step.data)
                answers[script.tag] += connection.until()
    return answers


# --- comparing


def same(script: Script, direct: Transcript, pooled: Transcript) -> None:
    """Difference when the pooled client was answered otherwise."""
    if not direct.parameters:
        _refused(script, direct, pooled)
        return
    _let_in(script, direct, pooled)
    one, notes_one = _apart(direct)
    other, notes_other = _apart(pooled, direct.parameters)
    _excuse_later(one, other)
    _excuse_known_text(one, other)
    compare(script, one, other)
    for channel in sorted(notes_one.keys() | notes_other.keys()):
        a, b = notes_one[channel], notes_other[channel]
        if script.steps[-1].end != "X" or script.steps[-1].what != "goodbye":
            a = a[: len(b)]  # it left without waiting for them
        if a != b:
            raise Difference(f"{script.tag}, channel {channel!r}:\n  direct: {a}\n  pooled: {b}")


def _refused(script: Script, direct: Transcript, pooled: Transcript) -> None:
    """PostgreSQL did not let the client in; pgferry may say the same only at its first query."""
    one, other = [[m.sqlstate for m in heard.messages if m.type == "E"][:1] for heard in (direct, pooled)]
    if one != other:
        raise Difference(f"{script.tag}: login with {script.parameters}: {one} directly, {other} pooled")


def _let_in(script: Script, direct: Transcript, pooled: Transcript) -> None:
    if direct.parameters and not pooled.parameters and pooled.messages:
        raise Difference(f"{script.tag}: login with {script.parameters}: {pooled.messages[0].fields}")


def same_until_death(script: Script, direct: Transcript, pooled: Transcript) -> None:
    """Difference when an answer is another one before an error told that a server is gone."""
    if not direct.parameters:
        return
    one, notes_one = _apart(direct)
    other, notes_other = _apart(pooled, direct.parameters)
    _excuse_later(one, other)
    _excuse_known_text(one, other)
    at = next((i for i, m in enumerate(other.messages) if _tells_death(m)), None)
    if at == 0 and not other.parameters:
        return  # not even logged in
    if at is not None:
        start = max((i + 1 for i, m in enumerate(other.messages[:at]) if m.type == "Z"), default=0)
        del other.messages[start:], one.messages[start:]
        one.settled = other.settled = start
    compare(script, one, other)
    for channel, got in notes_other.items():
        rest = iter(notes_one[channel])
        if at is None and not all(payload in rest for payload in got):
            raise Difference(f"{script.tag}, channel {channel!r}: {got} of {notes_one[channel]}")


def _tells_death(got: Message) -> bool:
    return got.type == "EOF" or (got.type == "E" and got.sqlstate.startswith(DEATH))


def _apart(
    heard: Transcript, start: Mapping[str, str] | None = None
) -> tuple[Transcript, dict[str, list[str]]]:
    """Without notifications, and these by channel. `start`: parameters at login, as PostgreSQL writes them."""
    rest = Transcript(heard.parameters)
    notes: dict[str, list[str]] = defaultdict(list)
    places = [0]
    at_once = _tells_at_once(heard)
    known = told = dict(heard.parameters if start is None else start)
    for i, got in enumerate(heard.messages):
        if got.type == "S" and at_once:
            told = {**told, **dict([got.parameter])}
        elif got.type == "A":
            note = backend.NotificationResponse.read(got.body)
            notes[note.channel].append(note.payload_text)
        elif got.type == "N" and b"notifications" in got.body:
            pass  # the listening connection was lost, or is there again
        elif not (got.type == "N" and got.sqlstate == "42622"):
            # (Whoever shares a prepared statement is not told again that PostgreSQL shortens a name in it.)
            if got.type == "Z" and told != known:
                rest.messages += [_parameter(k, v) for k, v in sorted(told.items()) if known.get(k) != v]
                known = told
            rest.messages.append(_plain(got))
        places.append(len(rest.messages))
        if i + 1 == heard.settled:
            rest.settled = len(rest.messages)
    _sort_parameters(rest.messages)
    rest.at_step = [(places[at], what) for at, what in heard.at_step if what != NOTES]
    return rest, notes


def _tells_at_once(heard: Transcript) -> bool:
    """Whether parameters are to be compared as they are at each ReadyForQuery.

    That is when PostgreSQL tells of them from 14 on. PostgreSQL 13 tells of each assignment, and RESET ALL of each
    parameter that has been set since the session began, changed or not; in a session that others have used before,
    these are others.
    """
    version = heard.parameters.get("server_version", "14")
    return int(version.split(".")[0]) < 14


def _parameter(name: str, value: str) -> Message:
    return Message("S", f"{name}\0{value}\0".encode())


def _sort_parameters(messages: list[Message]) -> None:
    """The order in which PostgreSQL tells of parameters is that of their changing inside the server."""
    at = 0
    while at < len(messages):
        end = at
        while end < len(messages) and messages[end].type == "S":
            end += 1
        messages[at:end] = sorted(messages[at:end], key=lambda m: m.body)
        at = end + 1


def _plain(got: Message) -> Message:
    """Without what differs for good reasons. "PL/pgSQL function public.f()": its schema depends on who called first."""
    if got.type in "EN":
        # The place in the text is that in the text PostgreSQL got.
        return Message(got.type, _PLACE.sub(b"", got.body.replace(b"function public.", b"function ")))
    if got.type == "T":
        return Message(got.type, _without_tables(got.body))
    if got.type == "D" and any(x in got.body for x in _INSERTED):
        return Message(got.type, _without_inserts(got.body))
    return got


def _without_inserts(body: bytes) -> bytes:
    """A row without what pgferry puts into texts: pg_cursors and the like show the whole text of the client."""
    values = []
    for value in backend.DataRow.read(body).values:
        if value is not None:
            value = _VIEW.sub(b"pg_prepared_statements", _INSERT.sub(b"", value))
            value = _NAME.sub(rb"\1statement", value)
        values.append(value)
    return backend.DataRow(tuple(values)).payload()


def _without_tables(body: bytes) -> bytes:
    """A RowDescription without the tables its columns are of: pg_prepared_statements has another query's place."""
    columns = backend.RowDescription.read(body).columns
    plain = (msgspec.structs.replace(column, table_oid=0, column=0) for column in columns)
    return backend.RowDescription(tuple(plain)).payload()


def _excuse_later(direct: Transcript, pooled: Transcript) -> None:
    """currval in a later transaction may fail, saying why, on a server that does not know."""
    steps = zip(direct.at_step, pooled.at_step, strict=False)
    for (at, what), (place, _) in reversed([*steps]):
        error = pooled.messages[place] if place < len(pooled.messages) else None
        if what != LATER or error is None or error.type not in "13TE":
            continue
        end_one = _end_of_batch(direct.messages, at)
        end_other = _end_of_batch(pooled.messages, place)
        batch = pooled.messages[place:end_other]
        if any(m.type == "E" and m.sqlstate.startswith(("55", "0A")) for m in batch):
            if place < pooled.settled:
                pooled.settled += (end_one - at) - (end_other - place)
            pooled.messages[place:end_other] = direct.messages[at:end_one]


def _excuse_known_text(direct: Transcript, pooled: Transcript) -> None:
    """The Parse of a text that the server knows already always succeeds: its error is that of the next message."""
    for i, wanted in enumerate(direct.messages):
        if i >= len(pooled.messages) or pooled.messages[i] == wanted:
            continue
        batch = pooled.messages[i : _end_of_batch(pooled.messages, i)]
        if wanted.type != "E" or batch[0].type != "1" or wanted not in batch:
            return
        early = batch.index(wanted)
        del pooled.messages[i : i + early]
        pooled.settled -= early if pooled.settled > i else 0


def _end_of_batch(messages: Sequence[Message], start: int) -> int:
    return next((i + 1 for i in range(start, len(messages)) if messages[i].type == "Z"), len(messages))


# --- rounds


class Killer:
    """Ends a server of the database now and then, in a thread of its own, while it is entered."""

    def __init__(self, cluster: Cluster, database: str, seed: int) -> None:
        self.cluster = cluster
        self.database = database
        self.rng = random.Random(seed)
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._kill)

    def _kill(self) -> None:
        pids = f"SELECT pid FROM pg_stat_activity WHERE datname = '{self.database}' ORDER BY pid"
        while not self.over.wait(self.rng.uniform(0.02, 0.12)):
            if rows := self.cluster.sql(pids):
                (pid,) = self.rng.choice(rows)
                self.cluster.sql(f"SELECT pg_terminate_backend({pid})")

    def __enter__(self) -> "Killer":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()


class Comparison:
    """Compares rounds on one database of one cluster, directly and through one pooler."""

    def __init__(self, cluster: Cluster, database: str, pooled: Address) -> None:
        self.cluster = cluster
        self.database = database
        self.direct: Address = ("127.0.0.1", cluster.port)
        self.pooled = pooled
        state_schema.make_objects(cluster, database)
        self.quiet = quiet_answers(self.direct, database)
        self._use_sequences()

    def _use_sequences(self) -> None:
        """Have every worker see currval: from then on it keeps the sequence values of clients apart."""
        for _ in range(12):
            with wire.Wire.login(self.pooled, database=self.database, user="postgres") as connection:
                connection.query("SELECT lastval()")

    def check(self, scripts: Sequence[Script], seed: int, noise: bool = True) -> None:
        """Difference or Hang when the runs are not alike."""
        direct, pooled = self._both(scripts, seed, noise)
        for script, a, b in zip(scripts, direct.heard, pooled.heard, strict=True):
            same(script, a, b)
        check_noise(self.quiet, pooled.noise)
        self._nothing_held()

    def check_deaths(self, scripts: Sequence[Script], seed: int) -> None:
        """The same while servers of the pooled run are ended."""
        direct, pooled = self._both(scripts, seed, noise=False, deaths=True)
        for script, a, b in zip(scripts, direct.heard, pooled.heard, strict=True):
            same_until_death(script, a, b)

    def _both(
        self, scripts: Sequence[Script], seed: int, noise: bool, deaths: bool = False
    ) -> tuple[Run, Run]:
        state_schema.clean(self.cluster, self.database)
        direct = run(scripts, self.direct, self.database, seed)
        self._nothing_held()
        state_schema.clean(self.cluster, self.database)
        noisy = noise_scripts() if noise else []
        notes = None if deaths else direct.notes
        try:
            with Killer(self.cluster, self.database, seed) if deaths else nullcontext():
                pooled = run(scripts, self.pooled, self.database, seed + 1, noisy, notes)
        except Hang as e:
            for script, heard in zip(scripts, direct.heard, strict=True):
                if script.tag in e.heard:
                    same(script, heard, e.heard[script.tag])
            raise
        return direct, pooled

    def _nothing_held(self) -> None:
        """Difference when advisory locks or temporary tables outlive those who made them."""
        text = (
            "SELECT 'lock ' || objid FROM pg_locks WHERE locktype = 'advisory' AND database ="
            " (SELECT oid FROM pg_database WHERE datname = current_database())"
            " UNION ALL SELECT 'table ' || relname FROM pg_class WHERE relpersistence = 't' AND relkind = 'r'"
        )
        limit = time.monotonic() + 5
        while rows := self.cluster.sql(text, self.database):
            if time.monotonic() > limit:
                raise Difference(f"left behind: {rows[:5]}")
            time.sleep(0.02)


def shrunk(comparison: Comparison, scripts: Sequence[Script], seed: int, tries: int = 3) -> str:
    """The programs and steps that the difference needs, as far as taking parts away finds out."""

    def differs(some: Sequence[Script]) -> str:
        for n in range(tries):
            try:
                comparison.check(some, seed + n)
            except (Difference, Hang) as e:
                return str(e)
        return ""

    best, last = [*scripts], "differs only now and then"
    size = len(best) // 2
    while size:
        at = 0
        while at < len(best):
            fewer = best[:at] + best[at + size :]
            if found := differs(fewer):
                best, last = fewer, found
            else:
                at += size
        size //= 2
    for which, script in enumerate(best):
        size = len(script.steps) // 2
        while size:
            at = 0
            while at < len(best[which].steps) - 1:
                steps = best[which].steps
                fewer_steps = steps[:at] + steps[min(at + size, len(steps) - 1) :]
                shorter = Script(script.tag, script.parameters, fewer_steps)
                candidate = [*best[:which], shorter, *best[which + 1 :]]
                if found := differs(candidate):
                    best, last = candidate, found
                else:
                    at += size
            size //= 2
    shown = []
    for script in best:
        shown += [
            f"{script.tag} {script.parameters}",
            *(f"  {s.what}: {s.data[:300]!r}" for s in script.steps),
        ]
    return "\n".join([*shown, last])
