"""Plays the scripts of many clients at once and compares what they received in two runs."""

import os
import random
import re
import selectors
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pgferry.client import Address
from pgferry.protocol.reader import MessageReader
from support import wire
from support.scripts import Maker, Script, Step
from support.wire import Message

TAG = re.compile(rb"<[0-9a-z]{6}>")
STALLED = float(
    os.environ.get("PGFERRY_DIFF_STALLED", "10")
)  # seconds without a byte for anybody: the run hangs


class Difference(AssertionError):
    """The two runs are not the same, or a client was given what is not its own."""


class Hang(AssertionError):
    """Nobody gets on any more."""

    def __init__(self, text: str, stuck: "Sequence[Player]" = ()) -> None:
        super().__init__(text)
        self.heard = {p.script.tag: p.heard for p in stuck}


@dataclass(slots=True)
class Transcript:
    """What one client received after its login. The first `settled` messages had come before it left."""

    parameters: dict[str, str] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    settled: int = 0
    at_step: list[tuple[int, str]] = field(default_factory=list)

    def step_of(self, index: int) -> str:
        """What the client had sent last when message `index` came."""
        done = [what for at, what in self.at_step if at <= index]
        return done[-1] if done else "login"


class Player:
    """One client on one connection, playing a script without blocking."""

    def __init__(self, script: Script, address: Address, database: str, rng: random.Random) -> None:
        self.script = script
        self.rng = rng
        self.heard = Transcript()
        self.wire = self.login(address, database)
        self.heard.parameters = dict(self.wire.parameters)
        self.sock = self.wire.sock
        self.sock.setblocking(False)
        self.input = MessageReader()
        self.output = b""
        self.next = 0
        self.step = Step("login")
        self.owed = self.seen = 0
        self.mark_seen = self.failed = self.copying = self.answered = False
        self.done = False

    def login(self, address: Address, database: str) -> wire.Wire:
        """The connection that the script is played on."""
        return wire.Wire.login(address, database=database, timeout=30, **self.script.parameters)  # type: ignore[arg-type]

    def wants_to_write(self) -> bool:
        return bool(self.output)

    def on_readable(self) -> bool:
        """Take what has come; False at the end of the stream."""
        try:
            data = self.sock.recv(262144)
        except BlockingIOError:
            return True
        except ConnectionResetError:
            data = b""
        if not data:
            self.heard.messages.append(Message("EOF", b""))
            self.leave()
            return False
        self.input.feed(data)
        for kind, body in self.input:
            self._on_message(Message(kind.decode("latin-1"), body))
        return True

    def _on_message(self, got: Message) -> None:
        self.heard.messages.append(got)
        if got.type == "Z":
            self.seen += 1
            self.failed = self.copying = False
            if self.step.wait == "mark" and self.mark_seen:
                self.owed = self.seen
                self.answered = True
        elif got.type == "E":
            self.failed = True
            self.copying = False
            if self.step.mark and f'"{self.step.mark}"' in got.text:
                self.mark_seen = True
        elif got.type == "G":
            self.copying = True
        if got.type in self.step.until:
            self.answered = True

    def ready(self) -> bool:
        """Whether the present step is over."""
        if self.output:
            return False
        wait = self.step.wait
        if wait == "none":
            return True
        if wait == "answer":
            return self.answered or self.failed
        if wait == "mark":
            return self.answered
        return self.owed == self.seen or (wait == "G" and self.copying)

    def go_on(self) -> None:
        """Write, and start next steps, as far as that is possible now."""
        while not self.done:
            if self.output:
                cut = len(self.output)
                if self.rng.random() < 0.3:
                    cut = self.rng.randrange(1, cut + 1)
                try:
                    sent = self.sock.send(self.output[:cut])
                except BlockingIOError:
                    return
                except (BrokenPipeError, ConnectionResetError):
                    self.output = b""
                    self.step = Step("broken", wait="all")
                    self.owed += 1  # the end of the stream is still to be read
                    return
                self.output = self.output[sent:]
                if self.output:
                    return
            if not self.ready():
                return
            if self.step.end:
                self.leave()
                break
            self._start(self.script.steps[self.next % len(self.script.steps)])  # noise never ends

    def _start(self, step: Step) -> None:
        if self.step.wait in ("all", "mark"):
            self.heard.settled = len(self.heard.messages)
        self.next += 1
        if (step.only == "copy" and not self.copying) or (step.only == "fine" and self.failed):
            return
        self.step = step
        self.mark_seen = self.answered = False
        self.owed += step.answers
        self.output = step.data
        self.heard.at_step.append((len(self.heard.messages), step.what))

    def leave(self) -> None:
        self.done = True
        if self.step.end == "reset":
            self.wire.reset()
        else:
            self.wire.close()

    def __str__(self) -> str:
        last = "".join(m.type for m in self.heard.messages[-8:])
        answers = f"{self.seen} of {self.owed} answers, last {last}"
        return f"{self.script.tag} step {self.next} {self.step.what!r} ({answers})"


def play(
    scripts: Sequence[Script],
    address: Address,
    database: str,
    seed: int,
    at_once: int = 12,
    noise: Sequence[Script] = (),
    make: Callable[[Script, Address, str, random.Random], Player] = Player,
) -> list[Transcript]:
    """Play all scripts, so many at once, beside clients that only make noise. Hang when nothing moves."""
    rng = random.Random(seed)
    waiting = list(reversed(scripts))
    poll = selectors.DefaultSelector()
    players: list[Player] = []
    order: list[Player] = []

    def enter(script: Script) -> Player:
        player = make(script, address, database, random.Random(rng.random()))
        players.append(player)
        poll.register(player.sock, selectors.EVENT_READ, player)
        return player

    noisy = [enter(script) for script in noise]
    moved = time.monotonic()
    try:
        while waiting or any(p not in noisy for p in players):
            while waiting and len(players) - len(noisy) < at_once:
                order.append(enter(waiting.pop()))
            rng.shuffle(players)
            for player in [*players]:
                sock = player.sock
                fd = sock.fileno()
                player.go_on()
                _settle(poll, players, player, fd)
            if not players:
                continue
            events = poll.select(0 if any(p.wants_to_write() for p in players) else 0.5)
            for key, _ in events:
                key.data.on_readable()
                _settle(poll, players, key.data, key.fd)
                if key.data not in noisy:
                    moved = time.monotonic()
            if time.monotonic() - moved > STALLED:
                raise Hang("nothing moves:\n  " + "\n  ".join(map(str, players)), players)
    finally:
        for player in players:
            player.wire.close()
        poll.close()
    for player in [*order, *noisy]:
        own_only(player.script, player.heard)
    return [p.heard for p in order]


def _settle(poll: selectors.BaseSelector, players: list[Player], player: Player, fd: int) -> None:
    if player.done and player in players:
        players.remove(player)
        try:
            poll.unregister(fd)
        except KeyError:
            pass


def plain_noise(number: int) -> Script:
    """A client that asks the same for ever."""
    tag = f"<noise{number}>"
    step = Step("noise", wire.query(f"SELECT '{tag}'"), 1)
    return Script(tag, {"application_name": tag}, [step])


# --- comparing


def own_only(script: Script, heard: Transcript) -> None:
    """Difference when the client was given something with another client's tag."""
    for i, got in enumerate(heard.messages):
        for tag in TAG.findall(got.body):
            if tag.decode() != script.tag:
                where = f"in message {i} ({_shown(got)}), step {heard.step_of(i)!r}"
                raise Difference(f"{script.tag} received {tag.decode()} {where} {got.body!r}")


def compare(script: Script, direct: Transcript, pooled: Transcript) -> None:
    """Difference when the client was answered otherwise than on a direct connection."""
    _compare_parameters(script, direct.parameters, pooled.parameters)
    a, b = _without_probes(direct.messages[: direct.settled], pooled.messages[: pooled.settled])
    # It left after that: how much of the rest it saw is chance.
    rest = list(zip(direct.messages[direct.settled :], pooled.messages[pooled.settled :], strict=False))
    a += [x for x, _ in rest]
    b += [y for _, y in rest]
    for i in range(max(len(a), len(b))):
        x = a[i] if i < len(a) else None
        y = b[i] if i < len(b) else None
        if x is None or y is None or _essence(x) != _essence(y):
            raise Difference(
                f"{script.tag}, message {i} after step {direct.step_of(i)!r}:\n"
                f"  direct: {_shown(x)}\n  pooled: {_shown(y)}\n{_columns(x, y)}"
                f"  before: {' | '.join(_shown(m) for m in a[max(0, i - 4) : i])}"
            )


def _without_probes(direct: list[Message], pooled: list[Message]) -> tuple[list[Message], list[Message]]:
    """Both without the batches that failed only because the transaction had.

    A statement that this server lacks is prepared there first, and in an aborted transaction that already
    fails, where a direct connection first looks at parameters, or can still describe. The batch fails anyway.
    A Close or Parse behind it was skipped then, so that the two no longer hold the same names: nothing after
    that is compared.
    """
    one, other = _batches(direct), _batches(pooled)
    for i in range(1, min(len(one), len(other))):
        failed = Message("Z", b"E")
        last = other[i][-2].fields if len(other[i]) > 1 and other[i][-2].type == "E" else {}
        injected = last.get("R") == "exec_parse_message" and last["C"] == "25P02"
        if injected and one[i - 1][-1:] == one[i][-1:] == other[i][-1:] == [failed]:
            names_differ = {m.type for m in one[i]} & {"1", "3"}
            one[i] = other[i] = [failed]
            if names_differ:
                del one[i + 1 :], other[i + 1 :]
                break
    return [m for batch in one for m in batch], [m for batch in other for m in batch]


def _batches(messages: list[Message]) -> list[list[Message]]:
    batches: list[list[Message]] = [[]]
    for got in messages:
        batches[-1].append(got)
        if got.type == "Z":
            batches.append([])
    return batches


def _compare_parameters(script: Script, direct: dict[str, str], pooled: dict[str, str]) -> None:
    for name in sorted(direct.keys() | pooled.keys()):
        asked = script.parameters.get(name)
        if direct.get(name) != pooled.get(name) and (asked is None or asked != pooled.get(name)):
            raise Difference(
                f"{script.tag}: {name} is {direct.get(name)} directly, {pooled.get(name)} pooled"
            )


def _essence(got: Message) -> tuple[str, object]:
    """A message without what may differ."""
    if got.type == "A":
        return got.type, got.body[4:]  # NotificationResponse: without the process id
    if got.type == "E" and got.sqlstate == "25P02":
        # Where in its source PostgreSQL noticed an aborted transaction depends on the message, and an
        # injected Parse may come first.
        return got.type, {k: v for k, v in got.fields.items() if k not in "FLR"}
    return got.type, got.body


def _columns(x: Message | None, y: Message | None) -> str:
    """Of two rows: the columns that are not the same."""
    if x is None or y is None or not x.type == y.type == "D":
        return ""
    pairs = enumerate(zip(x.row, y.row, strict=False), 1)
    return "".join(f"  column {n}: {a!r}, pooled {b!r}\n" for n, (a, b) in pairs if a != b)


def _shown(got: Message | None) -> str:
    if got is None:
        return "nothing"
    if got.type in "EN" and got.type:
        return f"{got.type} {got.fields}"
    return f"{got.type} {got.body[:100]!r}"


# --- rounds


def make_scripts(seed: int, mode: str, clients: int, actions: int = 25) -> list[Script]:
    """The scripts of one round."""
    rng = random.Random(seed)
    letters = "0123456789abcdefghijklmnopqrstuvwxyz"
    tags: list[str] = []
    while len(tags) < clients:
        tag = "<" + "".join(rng.choice(letters) for _ in range(6)) + ">"
        if tag not in tags:
            tags.append(tag)
    return [Maker(seed, tag, mode, actions).script() for tag in tags]


def fixed_seed() -> int | None:
    """PGFERRY_DIFF_SEED: this round alone."""
    text = os.environ.get("PGFERRY_DIFF_SEED")
    return int(text) if text else None
