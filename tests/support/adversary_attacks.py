"""Programs that try to leave session state behind, made from a seed and a tag that nobody else has.

A family is one way of doing it (adversary_families has them all). What is left is a payload of adversary_schema.
A program is a list of moves by one or more connections, taken one after the other.
"""

import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from support import adversary_schema as schema
from support import wire

SIZES = (0, 0, 700, 16_500, 131_500, 1_100_000)


@dataclass(slots=True)
class Move:
    """Bytes that one connection sends, and how.

    cut: "" whole, "some" in a few pieces, "bytes" byte for byte (its ends, if it is long), with pauses between.
    wait: for all answers that are owed, or for none. end: "X", "close" or "reset" afterwards.
    expect: the first column of the last row that comes, else the program's owner has lost its state.
    """

    data: bytes
    answers: int = 1
    who: int = 0
    cut: str = ""
    wait: bool = True
    end: str = ""
    cancel: bool = False
    pause: float = 0.0  # seconds before it
    expect: bytes | None = None


@dataclass(slots=True)
class Attack:
    """A program of one attacker."""

    family: str
    payload: str
    tag: str
    user: str
    moves: list[Move]
    startup: dict[str, str] = field(default_factory=dict)
    direct: bool = False  # its second connection (Move.who 1) goes to PostgreSQL itself

    def __str__(self) -> str:
        shown = [f"{self.family} ({self.payload}) {self.tag} by {self.user} {self.startup or ''}"]
        for move in self.moves:
            data = move.data if len(move.data) < 400 else move.data[:200] + b"  ...  " + move.data[-200:]
            shown.append(f"    {move.who} {move.cut} {move.end} {'' if move.wait else 'no wait '}{data!r}")
        return "\n".join(shown)


@dataclass(frozen=True, slots=True)
class Family:
    """One way of leaving state behind, and the payloads that it can carry."""

    make: Callable[["AttackMaker"], list[Move]]
    needs: str = ""  # "call", "setting", "fixed"
    direct: bool = False  # see Attack; only played where that is allowed (Plan.outside)

    def can(self, payload: schema.Payload) -> bool:
        if self.needs == "fixed":
            return payload in schema.FIXED
        return not self.needs or bool(getattr(payload, self.needs))


def starting(rng: random.Random) -> dict[str, str]:
    """Settings of a startup packet that would harm others."""
    some = {
        "TimeZone": "Asia/Tokyo",
        "DateStyle": "German",
        "search_path": "adv_evil",
        "client_encoding": rng.choice(["LATIN1", "SJIS", "UTF8"]),
        "options": rng.choice(
            ["-c app.start=evil", "-c statement_timeout=20", "-c app.tenant=evil -c work_mem=77"]
        ),
        "work_mem": "99",
    }
    names = rng.sample([*some], rng.randint(1, 3))
    return {name: some[name] for name in names}


class AttackMaker:
    """Makes one program. `oids`, `kinds`: of the objects (see adversary_schema.make_objects)."""

    def __init__(
        self,
        seed: str,
        tag: str,
        user: str,
        superuser: bool,
        oids: Mapping[str, int],
        kinds: Collection[str],
        without: Collection[str] = (),
    ) -> None:
        self.rng = random.Random(seed)
        self.tag = tag
        self.user = user
        self.oids = oids
        self.kinds = kinds
        self.payloads = [
            p for p in schema.PAYLOADS if (superuser or not p.superuser) and p.name not in without
        ]
        self.fresh = schema.fresh(tag)
        self.payload = self.fresh
        self.kept = False  # whether the owner is to find its app.tenant

    def make(self, family: str, kind: Family) -> Attack:
        rng = self.rng
        self.payload = rng.choice([p for p in self.payloads if kind.can(p)])
        if kind.can(self.fresh) and rng.random() < 0.35:
            self.payload = self.fresh
        moves = kind.make(self)
        start = starting(rng) if family == "startup" else {}
        for move in moves:
            if not move.cut and rng.random() < 0.25:
                move.cut = rng.choice(["some", "some", "bytes"])
        if self.kept and self.payload.name in ("tenant", "fresh") and not moves[-1].end:
            text = "SELECT current_setting($1, true)"
            data = wire.parse(text) + wire.bind([self.payload.setting]) + wire.execute() + wire.sync()
            moves.append(Move(data, expect=b"evil"))
        if not moves[-1].end:
            if rng.random() < 0.3:
                moves.append(Move(b"", 0, pause=rng.uniform(0, 0.3)))
            moves.append(Move(b"", 0, end=rng.choice(["X", "X", "close", "reset"])))
        return Attack(family, self.payload.name, self.tag, self.user, moves, start, kind.direct)

    # --- how statements are sent

    def one(self, sql: str | bytes, **more: object) -> Move:
        """By the simple or the extended protocol."""
        if self.rng.random() < 0.5:
            return Move(wire.query(sql), **more)  # type: ignore[arg-type]
        return Move(self.extended(sql) + wire.sync(), **more)  # type: ignore[arg-type]

    def extended(self, sql: str | bytes, values: tuple[str | bytes | None, ...] = ()) -> bytes:
        name = self.rng.choice(["", "", "adv1"])
        data = wire.close(name) if name else b""
        return data + wire.parse(sql, name) + wire.bind(values, name) + wire.execute()

    def filler(self) -> str:
        """Harmless data of many sizes with words in it that a reader may stumble over."""
        size = self.rng.choice(SIZES)
        unit = self.rng.choice(
            ["x", "set role nobody; ", "it''s ", "select pg_notify(), ", "-- ", "/* ", "é"]
        )
        return unit * (size // len(unit.encode()))

    def statement(self) -> str:
        """The payload by a statement, else by its call."""
        p = self.payload
        if p.statement and (not p.call or self.rng.random() < 0.5):
            return p.statement
        return f"SELECT {p.call}"
