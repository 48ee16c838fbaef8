"""The clients of the isolation adversary, none of which blocks: attackers, witnesses, keepers, and who listens.

A witness has no state and asks for everything that can be seen of a session; a keeper has state and knows what it
is. What they hear is compared with what is right; Difference tells who heard what else, and on which server.
"""

import random
import selectors
import struct
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence

from pgferry.client import Address
from pgferry.protocol.reader import MessageReader
from support import wire
from support.adversary_attacks import Attack, Move
from support.differential import Difference
from support.wire import Message

PATIENCE = 1.0  # seconds that an attacker waits for an answer: somebody else may hold all servers
ASKS_FOR_IT = ("timeouts", "idle", "gone")  # families whose sessions may have to be ended
DEATH = ("57P", "08", "58")  # SQLSTATEs that say that a server or the pooler went away


class Connection:
    """One connection: what is sent goes out in pieces with pauses, what comes is kept as messages."""

    def __init__(self, address: Address, database: str, user: str, rng: random.Random, **more: str) -> None:
        self.rng = rng
        self.wire = wire.Wire(address, 10)
        self.sock = self.wire.sock
        self.sock.setblocking(False)
        self.out: deque[tuple[float, bytes]] = deque()  # (not before, data)
        self.input = MessageReader()
        self.messages: list[Message] = []
        self.parameters: dict[str, str] = {}
        self.pid, self.key = 0, b""
        self.owed, self.seen = 1, 0
        self.closed = False
        self.address = address
        self.send(wire.startup(user, database, **more))  # type: ignore[arg-type]

    def send(self, data: bytes, cut: str = "") -> None:
        """Queue it, cut as Move says."""
        now = time.monotonic()
        places: list[int] = []
        if cut == "some":
            places = sorted(self.rng.randrange(1, max(2, len(data))) for _ in range(self.rng.randint(1, 5)))
        elif cut == "bytes":
            places = [*range(1, min(70, len(data))), *range(max(70, len(data) - 40), len(data))]
        at = 0
        for place in [*places, len(data)]:
            if place > at:
                self.out.append((now, data[at:place]))
                now += self.rng.choice([0.0002, 0.0005, 0.002])
                at = place

    def write(self, now: float) -> None:
        while self.out and self.out[0][0] <= now and not self.closed:
            at, data = self.out.popleft()
            try:
                sent = self.sock.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.out.clear()
                return
            if sent < len(data):
                self.out.appendleft((at, data[sent:]))
                return

    def read(self) -> list[Message]:
        """What has come; an end of the stream is Message("EOF")."""
        try:
            data = self.sock.recv(1 << 18)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        got: list[Message] = []
        if not data:
            self.closed = True
            got.append(Message("EOF", b""))
        self.input.feed(data)
        got += [Message(kind.decode("latin-1"), body) for kind, body in self.input]
        for one in got:
            if one.type == "Z":
                self.seen += 1
            elif one.type == "S":
                self.parameters.update([one.parameter])
            elif one.type == "K":
                self.pid, self.key = struct.unpack_from("!i", one.body)[0], one.body[4:]
        self.messages += got
        return got

    @property
    def quiet(self) -> bool:
        """Everything is sent and answered."""
        return not self.out and (self.closed or self.seen >= self.owed)

    def cancel(self) -> None:
        try:
            with wire.Wire(self.address, 5) as other:
                other.send(wire.cancel_request(self.pid, self.key))
        except OSError:
            pass

    def close(self, how: str = "close") -> None:
        self.closed = True
        if how == "X":
            try:
                self.sock.send(wire.terminate())
            except OSError:
                pass
        try:
            if how == "reset":
                self.wire.reset()
            else:
                self.wire.close()
        except OSError:
            pass


class Stage:
    """What all clients of a round share: where to connect, the poll, what is to be reported."""

    def __init__(self, address: Address, database: str, seed: int, tolerant: bool, cutting: bool) -> None:
        self.address = address
        self.database = database
        self.rng = random.Random(seed)
        self.tolerant = tolerant  # servers, clients or workers are killed: their errors are excused
        self.cutting = cutting  # bystanders send some of their messages in pieces
        self.poll = selectors.DefaultSelector()
        self.owners: dict[Connection, Client] = {}
        self.counts: Counter[str] = Counter()
        self.events: list[str] = []  # what attackers did, newest last
        self.direct: tuple[Address, str, str] = (address, database, "")  # PostgreSQL itself, database, user

    def open(self, owner: "Client", user: str, **more: str) -> Connection:
        rng = random.Random(self.rng.random())
        return self._owned(owner, Connection(self.address, self.database, user, rng, **more))

    def open_direct(self, owner: "Client") -> Connection:
        """A connection to PostgreSQL, as the user of pgferry's servers."""
        address, database, user = self.direct
        return self._owned(owner, Connection(address, database, user, random.Random(self.rng.random())))

    def _owned(self, owner: "Client", made: Connection) -> Connection:
        self.poll.register(made.sock, selectors.EVENT_READ, made)
        self.owners[made] = owner
        return made

    def forget(self, connection: Connection, how: str = "close") -> None:
        if connection in self.owners:
            self.poll.unregister(connection.sock)
            del self.owners[connection]
        connection.close(how)

    def turn(self) -> None:
        """Read what has come, for all."""
        pending = any(c.out for c in self.owners)
        for key, _ in self.poll.select(0.0003 if pending else 0.004):
            connection: Connection = key.data
            owner = self.owners.get(connection)
            if owner is not None:
                owner.heard(connection, connection.read())
                if connection.closed:
                    self.forget(connection)
        now = time.monotonic()
        for connection in [*self.owners]:
            connection.write(now)

    def close(self) -> None:
        for connection in [*self.owners]:
            self.forget(connection)
        self.poll.close()


class Client:
    """Somebody with connections on a stage."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    def heard(self, connection: Connection, messages: Sequence[Message], /) -> None:
        """Messages have come."""

    def turn(self, now: float) -> None:
        """Go on, as far as that is possible without waiting."""


class Attacker(Client):
    """Takes the moves of an attack."""

    def __init__(self, stage: Stage, attack: Attack, ignored: bool = False) -> None:
        super().__init__(stage)
        self.attack = attack
        self.ignored = ignored  # session_state is ignore: another attack's time limit may end its session
        self.connections: dict[int, Connection] = {}
        self.at = -1
        self.move: Move | None = None
        self.started = self.not_before = time.monotonic()
        self.rows_from = 0
        self.paused = -1  # the move that has had its pause
        self.done = False

    def connection(self, who: int) -> Connection:
        if who not in self.connections:
            if who == 1 and self.attack.direct:
                self.connections[who] = self.stage.open_direct(self)
            else:
                self.connections[who] = self.stage.open(self, self.attack.user, **self.attack.startup)
            self.stage.events.append(f"{time.monotonic():.3f} enters {who}: {self.attack}")
        return self.connections[who]

    def turn(self, now: float) -> None:
        while not self.done and now >= self.not_before:
            if self.move is not None and not self._over(now):
                return
            self.at += 1
            if self.at >= len(self.attack.moves):
                self.leave("close")
                return
            self.move = None
            coming = self.attack.moves[self.at]
            connection = self.connection(coming.who)
            if not connection.seen and not connection.closed:
                self.at -= 1  # not logged in yet
                if now - self.started > PATIENCE:
                    self.leave("close")
                return
            if coming.pause and self.paused != self.at:
                self.paused, self.not_before = self.at, now + coming.pause
                self.at -= 1
                return
            self._start(coming, connection, now)

    def _start(self, move: Move, connection: Connection, now: float) -> None:
        self.move, self.started = move, now
        self.rows_from = len(connection.messages)
        connection.owed += move.answers
        connection.send(move.data, move.cut)
        if move.cancel:
            connection.cancel()
        if move.end and not move.data:
            self.leave(move.end)

    def _over(self, now: float) -> bool:
        move = self.move
        assert move is not None
        connection = self.connections[move.who]
        ready = not connection.out and (not move.wait or connection.quiet)
        if not ready and now - self.started > PATIENCE:
            self.stage.counts["attacks given up"] += 1
            self.leave("close")
            return False
        if ready and move.end:
            self.leave(move.end)
            return False
        if ready and move.expect is not None and not connection.closed:
            self._compare(move, connection)
        return ready

    def _compare(self, move: Move, connection: Connection) -> None:
        """What the owner has set, if nothing went wrong until then, is still there."""
        if any(m.type == "E" for m in connection.messages):
            self.stage.counts["attacks with errors"] += 1
            return
        rows = [m.row[0] for m in connection.messages[self.rows_from :] if m.type == "D"]
        if rows[-1:] != [move.expect]:
            raise Difference(
                f"the owner has lost its state: {rows} instead of {move.expect!r}\n{self.attack}"
            )
        self.stage.counts["own states checked"] += 1

    def heard(self, _: Connection, messages: Sequence[Message]) -> None:
        """An attacker is an ordinary client, too: nobody cuts it off."""
        for got in messages:
            if got.type == "E" and got.fields.get("S") == "FATAL":
                text = f"{self.attack.family}: {got.sqlstate} {got.text}"
                self.stage.counts["cut off, " + text] += 1
                if not (self.stage.tolerant or self.ignored or self.attack.family in ASKS_FOR_IT):
                    raise Difference(f"an attacker was cut off: {text}\n{self.attack}")

    def leave(self, how: str) -> None:
        self.stage.events.append(f"{time.monotonic():.3f} leaves ({how}): {self.attack.tag}")
        for connection in self.connections.values():
            self.stage.forget(connection, how)
        self.done = True


class Asker(Client):
    """A client that asks one thing after the other and compares each answer. It never ends."""

    def __init__(self, stage: Stage, name: str, user: str, rng: random.Random, pause: float) -> None:
        super().__init__(stage)
        self.name, self.user, self.rng, self.pause = name, user, rng, pause
        self.current: Connection | None = None
        self.next_at = 0.0
        self.since = time.monotonic()
        self.batch: list[Message] = []
        self.asking = self.entered = False
        self.checked = 0
        self.resting = False

    def startup(self) -> Mapping[str, str]:
        return {"application_name": "adversary"}

    def begin(self) -> None:
        """Logged in: nothing is left of a former connection."""

    def ask(self) -> tuple[bytes, int]:
        """The next question, and how many ReadyForQuery answer it."""
        raise NotImplementedError

    def unasked(self, got: Message) -> None:
        """Something that answers no question."""
        if not (self.stage.tolerant and got.type in "E"):
            raise Difference(f"{self.name} was told {got} without asking")

    def doing(self) -> str:
        """What it has asked last, for people."""
        return ""

    def check_answer(self, answer: list[Message]) -> None:
        """Difference when that is not what is right."""
        raise NotImplementedError

    def turn(self, now: float) -> None:
        if self.current is None:
            if self.resting:
                return
            self.current = self.stage.open(self, self.user, **self.startup())
            self.since = now
            return
        if self.asking or not self.entered or now < self.next_at or self.resting:
            return
        self.asking, self.batch, self.since = True, [], now
        data, answers = self.ask()
        self.current.owed += answers
        self.current.send(data, "some" if self.stage.cutting and self.rng.random() < 0.1 else "")

    @property
    def idle(self) -> bool:
        return self.current is None or (not self.asking and self.entered)

    def heard(self, connection: Connection, messages: Sequence[Message]) -> None:
        for got in messages:
            if got.type == "EOF" or (got.type == "E" and got.sqlstate.startswith(DEATH)):
                self.died(got)
                if self.current is None:
                    return
            if self.asking:
                self.batch.append(got)
            elif not self.entered:
                self.entered = got.type == "Z"
                if self.entered:
                    self.begin()
            elif got.type != "N":
                self.unasked(got)
        if self.asking and connection.quiet:
            batch, self.batch, self.asking = self.batch, [], False
            self.next_at = time.monotonic() + self.rng.uniform(0, self.pause)
            if not any(m.type == "E" and m.sqlstate.startswith(DEATH) for m in batch):
                self.check_answer([m for m in batch if m.type != "N"])
                self.checked += 1

    def died(self, got: Message) -> None:
        if not self.stage.tolerant:
            raise Difference(f"{self.name} was cut off: {got.fields if got.type == 'E' else 'end of stream'}")
        if got.type == "EOF":
            self.current, self.asking, self.entered, self.batch = None, False, False, []
            self.next_at = time.monotonic() + 0.02
