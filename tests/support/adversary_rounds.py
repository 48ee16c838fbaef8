"""Rounds of the isolation adversary: attackers among witnesses, keepers and listeners on one small pool."""

import contextlib
import os
import random
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

import psycopg

from pgferry.client import Address
from pgferry.embedded import Cluster
from support import adversary_schema as schema
from support.adversary_attacks import Attack, AttackMaker
from support.adversary_bystanders import Keeper, Witness, right_answers, right_parameters
from support.adversary_clients import Asker, Attacker, Stage
from support.adversary_families import FAMILIES
from support.adversary_news import Listener, Notifier
from support.differential import Difference, Hang
from support.pooler import SECRETS, Pooler

STUCK = float(os.environ.get("PGFERRY_DIFF_STALLED", "30"))  # seconds without an answer for a bystander
LOGINS = ("alice", "bob", "carol")
SERVER_USERS = {"adv_app": schema.APP, "adv_super": "postgres"}  # by entry of [databases]
KILLED = "worker.* died"  # what a killed worker logs
SEEN = 2.5  # seconds after which what was made on a direct connection is known, and servers were wiped
SETTINGS: dict[str, object] = {
    "session_state": "track",
    "default_pool_size": 2,
    "server_round_robin": 1,
    "max_prepared_statements": 8,
    "query_wait_notify": 0,
}


@dataclass(slots=True)
class Plan:
    """A round: what is attacked, by whom. The same seed makes the same plan."""

    seed: int
    entry: str
    attacks: list[Attack]
    at_once: int
    killing: bool = False
    others: bool = False  # nobody but witnesses of other login users than the attackers' looks
    # What must be over before witnesses look: "" nothing; "reload": session_state is ignore for the first half of the
    # attacks, and then track by RELOAD; "outside": attackers use what direct connections make at the same time.
    first: str = ""

    def __str__(self) -> str:
        return f"seed {self.seed}, entry {self.entry}:\n" + "\n".join(map(str, self.attacks))


@dataclass(slots=True)
class Summary:
    """What was done and checked in all rounds."""

    rounds: int = 0
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    attacks: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)

    def __iadd__(self, other: "Summary") -> "Summary":
        self.rounds += other.rounds
        self.seconds += other.seconds
        self.counts += other.counts
        self.attacks += other.attacks
        self.differences += other.differences
        return self

    def __str__(self) -> str:
        lines = [f"{self.rounds} rounds in {self.seconds:.0f} s, {len(self.differences)} differences"]
        lines.append("attacks: " + ", ".join(f"{k} {v}" for k, v in sorted(self.attacks.items())))
        lines += [f"{v:8} {k}" for k, v in sorted(self.counts.items())]
        return "\n".join(lines)


class Arena:
    """One database behind one pooler, for any number of rounds.

    `without`: families of attacks that are left out, payloads, and "news", "literals", "codecs" of the bystanders.
    `blind`: pgferry cannot read what functions do, since its user may not. `kinds`: of objects, else some or all.
    """

    def __init__(
        self,
        cluster: Cluster,
        database: str,
        make_pooler: Callable[..., Pooler],
        without: Collection[str] = (),
        blind: bool = False,
        kinds: Sequence[str] = (),
        **options: object,
    ) -> None:
        self.without = frozenset(without)
        self.cluster, self.database = cluster, database
        self.kinds = kinds or (schema.KINDS if random.random() < 0.4 else schema.QUIET)
        self.oids = schema.make_objects(cluster, database, self.kinds)
        if blind:
            cluster.sql("REVOKE SELECT ON pg_catalog.pg_proc FROM PUBLIC", database)
        direct: Address = ("127.0.0.1", cluster.port)
        users = [(entry, user) for entry, user in SERVER_USERS.items() if user == schema.APP or not blind]
        self.entries = [entry for entry, _ in users]
        self.right = {entry: right_answers(direct, database, user) for entry, user in users}
        self.parameters = {entry: right_parameters(direct, database, user) for entry, user in users}
        server = f"host=127.0.0.1 port={cluster.port} dbname={database}"
        settings = {**SETTINGS, **options.pop("settings", {})}  # type: ignore[dict-item]
        self.refuses = settings["session_state"] == "refuse"  # who keeps state is not served
        self.pooler = make_pooler(
            settings=settings,
            databases={entry: f"{server} user={user}" for entry, user in users},
            userlist={**SECRETS, **dict.fromkeys(LOGINS, "")},
            **options,
        )
        self.address: Address = (self.pooler.host, self.pooler.port)
        self.summary = Summary()

    def plan(
        self,
        seed: int,
        families: Sequence[str] = (),
        killing: bool = False,
        others: bool = False,
        first: str = "",
    ) -> Plan:
        """The plan of a round, of some families or all."""
        rng = random.Random(seed)
        entry = rng.choice(self.entries)
        attacks = []
        users = LOGINS[:1] if others else rng.choice([LOGINS[:1], LOGINS[:1], LOGINS[:2]])
        names = [name for name in families or FAMILIES if name not in self.without]
        names = [name for name in names if first == "outside" or not FAMILIES[name].direct]
        if first == "outside":
            names += ["outside"] * len(names)
        for n in range(rng.randint(8, 14)):
            tag = f"{seed}_{n}"
            user, superuser = rng.choice(users), entry == "adv_super"
            maker = AttackMaker(f"{seed}/{n}", tag, user, superuser, self.oids, self.kinds, self.without)
            family = rng.choice(names)
            attacks.append(maker.make(family, FAMILIES[family]))
        if others or first or self.refuses:
            for attack in attacks:
                if first == "reload":
                    attack.startup = {}  # refused as long as session_state is ignore
                attack.moves = [move for move in attack.moves if move.expect is None]
        return Plan(seed, entry, attacks, rng.choice([1, 1, 2, 3]), killing, others, first)

    def play(self, plan: Plan) -> None:
        """Difference or Hang when somebody heard what is not right."""
        started = time.monotonic()
        stage = Stage(self.address, plan.entry, plan.seed, plan.killing, "bind_pieces" not in self.without)
        direct: Address = ("127.0.0.1", self.cluster.port)
        stage.direct = (direct, self.database, SERVER_USERS[plan.entry])
        game = Game(self, stage, plan)
        try:
            with Chaos(self, plan.seed) if plan.killing else contextlib.nullcontext():
                game.run()
        except (Difference, Hang) as e:
            recent = "\n".join([*stage.events[-12:], "pgferry's last warnings:", *self._warnings()])
            if isinstance(e, Hang):
                e = Hang(f"{e}\n{self._standing()}")
            self.summary.differences.append(f"seed {plan.seed}: {str(e)[:300]}")
            raise type(e)(
                f"seed {plan.seed}, entry {plan.entry}: {e}\nattackers until then:\n{recent}"
            ) from None
        finally:
            stage.close()
            schema.clean(self.cluster, self.database)
            self.summary.rounds += 1
            self.summary.seconds += time.monotonic() - started
            self.summary.counts += stage.counts
            self.summary.attacks.update(a.family for a in plan.attacks)
            for asker in game.askers:
                self.summary.counts[f"answers checked, {type(asker).__name__}"] += asker.checked

    def _standing(self) -> str:
        """Who has which server, and why."""
        lines = []
        for what, names in (
            ("CLIENTS", "user database state wait ptr link"),
            ("SERVERS", "database state ptr link"),
            ("PINS", ""),
            ("STATE_COUNTERS", ""),
        ):
            for row in self.pooler.show(what):
                shown = {k: v for k, v in row.items() if not names or k in names.split()}
                lines.append(f"{what} {shown}")
        return "\n".join(lines)

    def _warnings(self) -> list[str]:
        """The last lines of the pooler's log that are not about connections that come and go."""
        lines = [x for x in self.pooler.log().splitlines() if re.search(" (WARNING|ERROR|FATAL) ", x)]
        return lines[-6:]


class Game:
    """One round under way."""

    def __init__(self, arena: Arena, stage: Stage, plan: Plan) -> None:
        self.arena, self.stage, self.plan = arena, stage, plan
        rng = stage.rng
        role, right = SERVER_USERS[plan.entry], arena.right[plan.entry]
        parameters = arena.parameters[plan.entry]

        def some() -> random.Random:
            return random.Random(rng.random())

        without = arena.without
        names = [schema.fresh(a.tag).setting for a in plan.attacks]
        self.witnesses = [Witness(stage, f"witness {u}", u, some(), right, parameters, names) for u in LOGINS]
        if plan.others:
            del self.witnesses[:1]
        del self.witnesses[rng.choice([1, 2, 3]) :]
        self.keepers = [
            Keeper(stage, f"keeper {n}", rng.choice(LOGINS), some(), role, encoding, without)
            for n, encoding in enumerate(["UTF8", "UTF8", rng.choice(["SJIS", "LATIN1", "GBK"])])
        ]
        alone = plan.others or arena.refuses
        del self.keepers[0 if alone else rng.choice([0, 1, 3]) :]
        listening = () if "news" in without or alone else LOGINS[:2]
        self.listeners = [Listener(stage, f"listener {u}", u, some()) for u in listening]
        self.notifier = Notifier(stage, "notifier", "carol", some())
        self.notifier.resting = True
        self.askers: list[Asker] = [*self.witnesses, *self.keepers, *self.listeners, self.notifier]
        self.attackers: list[Attacker] = []

    def run(self) -> None:
        waiting = list(reversed(self.plan.attacks))
        if self.plan.first:
            waiting = self._before(waiting)
        while waiting or self.attackers:
            while waiting and len(self.attackers) < self.plan.at_once:
                self.attackers.append(Attacker(self.stage, waiting.pop()))
            if self.notifier.resting and self.listeners and all(x.listening for x in self.listeners):
                self.notifier.resting = False
            self._turn()
            self.attackers = [a for a in self.attackers if not a.done]
        # All are gone: what they have left is to be seen now, on each server.
        before = [w.checked for w in self.witnesses]
        self._until(lambda: all(w.checked >= n + 8 for w, n in zip(self.witnesses, before, strict=True)))
        self._rest()

    def _before(self, waiting: list[Attack]) -> list[Attack]:
        """What is not promised yet: attacks while nobody looks. Returns those that are left."""
        later, reloads = len(waiting) // 2, self.plan.first == "reload"
        asleep = [asker for asker in self.askers if not asker.resting]
        if reloads:
            self.arena.pooler.set({"session_state": "ignore"})
        for asker in asleep:
            asker.resting = True
        while len(waiting) > later or (self.attackers and not reloads):
            while len(waiting) > later and len(self.attackers) < self.plan.at_once:
                self.attackers.append(Attacker(self.stage, waiting.pop(), reloads))
            self._turn()
            self.attackers = [a for a in self.attackers if not a.done]
        if reloads:
            self.arena.pooler.set({"session_state": "track"})
        else:
            waiting = [attack for attack in waiting if attack.family != "outside"]
            self._until_seen()
        for asker in asleep:
            asker.resting = False
        return waiting

    def _until_seen(self) -> None:
        """Wait, with some traffic, until pgferry has looked at the catalog."""
        end = time.monotonic() + SEEN
        with psycopg.connect(
            self.arena.pooler.conninfo(self.plan.entry, LOGINS[0]), autocommit=True
        ) as client:
            while time.monotonic() < end:
                client.execute("SELECT 1")
                time.sleep(0.05)

    def _rest(self) -> None:
        for asker in self.askers:
            asker.resting = True
        self._until(lambda: all(a.idle for a in self.askers))
        if not self.stage.tolerant:
            self._until(
                lambda: all(x.last == self.notifier.last for x in self.listeners if self.notifier.last)
            )

    def _until(self, over: Callable[[], bool]) -> None:
        limit = time.monotonic() + STUCK
        while not over():
            if time.monotonic() > limit:
                raise Hang(f"nothing moves: {[(a.name, a.asking, a.checked) for a in self.askers]}")
            self._turn()

    def _turn(self) -> None:
        self.stage.turn()
        now = time.monotonic()
        for attacker in self.attackers:
            attacker.turn(now)
        for asker in self.askers:
            asker.turn(now)
            if asker.asking and now - asker.since > STUCK:
                heard = [str(m)[:100] for m in asker.batch[-6:]]
                raise Hang(
                    f"{asker.name}, {asker.doing()}, was not answered for {STUCK:g} s; it heard {heard}"
                )


class Chaos:
    """Ends servers, clients and workers, and commands the pooler, in a thread of its own, while it is entered."""

    def __init__(self, arena: Arena, seed: int) -> None:
        self.arena = arena
        self.rng = random.Random(seed)
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._work)

    def _work(self) -> None:
        doings = [self._server, self._server, self._server, self._client, self._command, self._worker]
        while not self.over.wait(self.rng.uniform(0.03, 0.25)):
            with contextlib.suppress(psycopg.Error, OSError):
                self.rng.choice(doings)()

    def _server(self) -> None:
        database = self.arena.database
        text = f"SELECT pid FROM pg_stat_activity WHERE datname = '{database}' AND pid <> pg_backend_pid() ORDER BY 1"
        if rows := self.arena.cluster.sql(text):
            self.arena.cluster.sql(f"SELECT pg_terminate_backend({self.rng.choice(rows)[0]})")

    def _client(self) -> None:
        clients = [c for c in self.arena.pooler.show("CLIENTS") if c["database"] in SERVER_USERS]
        if clients:
            self.arena.pooler.admin(f"KILL_CLIENT {self.rng.choice(clients)['id']}")

    def _command(self) -> None:
        self.arena.pooler.admin(self.rng.choice(["RELOAD", "RECONNECT"]))

    def _worker(self) -> None:
        if self.rng.random() < 0.2 and (pids := self.arena.pooler.worker_pids):
            os.kill(self.rng.choice(pids), signal.SIGKILL)

    def __enter__(self) -> "Chaos":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()


def shrunk(arena: Arena, plan: Plan, tries: int = 3) -> str:
    """The attacks that the difference needs, as far as taking some away finds out."""

    def differs(attacks: Sequence[Attack]) -> str:
        for _ in range(tries):
            try:
                arena.play(replace(plan, attacks=[*attacks], at_once=1))
            except (Difference, Hang) as e:
                return str(e)
        return ""

    best, last = plan.attacks, "differs only now and then"
    size = len(best) // 2
    while size:
        at = 0
        while at < len(best):
            fewer = best[:at] + best[at + size :]
            if fewer and (found := differs(fewer)):
                best, last = fewer, found
            else:
                at += size
        size //= 2
    return "\n".join([*map(str, best), last])


def seeds(first: int, seconds: float) -> Iterator[int]:
    """Seeds until the time is over."""
    end = time.monotonic() + seconds
    seed = first
    while time.monotonic() < end:
        yield seed
        seed += 1
