"""Notifications beside the isolation adversary: what is committed is heard exactly once, in order."""

import random

from pgferry.protocol import backend
from support import wire
from support.adversary_clients import Asker, Stage
from support.differential import Difference
from support.wire import Message

CHANNELS = ("adv_news", "adv_other")


class Notifier(Asker):
    """Notifies with a running number, in transactions of all kinds."""

    def __init__(self, stage: Stage, name: str, user: str, rng: random.Random) -> None:
        super().__init__(stage, name, user, rng, 0.03)
        self.last = 0  # the number that was committed last

    def ask(self) -> tuple[bytes, int]:
        rng = self.rng
        numbers = [self.last + 1 + n for n in range(rng.choice([1, 1, 3, 40]))]
        filler = "x" * rng.choice([0, 0, 0, 500, 7000])
        texts = [f"NOTIFY {rng.choice(CHANNELS)}, '{n} {filler}'" for n in numbers]
        lost = f"NOTIFY {CHANNELS[0]}, '0 rolled back'"
        self.last = numbers[-1]
        how = rng.randrange(4)
        if how == 0:
            return wire.query("BEGIN; " + "; ".join(texts) + "; COMMIT"), 1
        if how == 1:
            return b"".join(wire.query(t) for t in texts), len(texts)
        if how == 2:
            return wire.query(f"BEGIN; {lost}; ROLLBACK; " + "; ".join(texts)), 1
        return wire.query("; ".join(texts)), 1

    def check_answer(self, answer: list[Message]) -> None:
        if errors := [m.fields for m in answer if m.type == "E"]:
            raise Difference(f"{self.name} could not notify: {errors}")


class Listener(Asker):
    """Listens, does some work of its own, and hears each number once, in order."""

    def __init__(self, stage: Stage, name: str, user: str, rng: random.Random) -> None:
        super().__init__(stage, name, user, rng, 0.02)
        self.last = 0
        self.told = 0
        self.listening = False

    def begin(self) -> None:
        self.listening = False

    def ask(self) -> tuple[bytes, int]:
        if not self.listening:
            return b"".join(wire.query(f"LISTEN {c}") for c in CHANNELS), len(CHANNELS)
        rng = self.rng
        again = f"LISTEN {rng.choice(CHANNELS)}"
        texts = rng.choice([["SELECT 1"], ["SELECT 1"], [again], ["BEGIN", again, "SELECT 1", "COMMIT"]])
        return b"".join(wire.query(t) for t in texts), len(texts)

    def check_answer(self, answer: list[Message]) -> None:
        if errors := [m.fields for m in answer if m.type == "E"]:
            raise Difference(f"{self.name} could not listen: {errors}")
        self.listening = True
        for got in answer:
            if got.type == "A":
                self.hear(got)

    def unasked(self, got: Message) -> None:
        if got.type == "A":
            self.hear(got)
        else:
            super().unasked(got)

    def hear(self, got: Message) -> None:
        payload = backend.NotificationResponse.read(got.body).payload_text
        number = int(payload.split(" ")[0])
        self.told += 1
        right = number > self.last if self.stage.tolerant else number == self.last + 1
        if not right:
            raise Difference(f"{self.name} heard {payload[:20]!r} after number {self.last}")
        self.last = number
