"""Random scripts for the differential test: what one client sends, in steps, and how far it reads after each.

A script is made from a seed, a tag that no other client has, and a pool mode. Every value it stores or asks
for carries the tag. Its answers are the same whenever it is run on an empty `diff_rows`: own rows only, in
order, no times, process ids, object ids of its own making. In transaction and statement mode it keeps no
session state beyond tracked parameters and prepared statements; statement mode has no transaction blocks.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from support import wire

TABLES = """
CREATE TABLE diff_rows (who text, k int, v text, PRIMARY KEY (who, k));
CREATE TABLE diff_late (who text, k int, UNIQUE (who, k) DEFERRABLE INITIALLY DEFERRED);
"""
NAMES = [f"s{i}" for i in range(1, 7)]
ZONES = ["UTC", "Asia/Tokyo", "America/Caracas", "Europe/Athens"]
STYLES = ["ISO, MDY", "German", "SQL, DMY"]

# Random, so that no plan is known to fail before it runs (generic plans fail later than others).
# Texts that clients share, so that their statements meet on the servers: (text, how parameters are made).
SHARED: list[tuple[str, Callable[["Maker"], list[str | None]]]] = [
    ("SELECT $1::text || ':' || $2::text AS v", lambda m: [m.tag, m.word()]),
    ("SELECT k, v FROM diff_rows WHERE who = $1 ORDER BY k", lambda m: [m.tag]),
    ("INSERT INTO diff_rows VALUES ($1, $2, $3)", lambda m: [m.tag, m.key(), m.word()]),
    (
        "UPDATE diff_rows SET v = v || $2 WHERE who = $1 AND k = $3 RETURNING k, v",
        lambda m: [m.tag, m.word(), m.key()],
    ),
    ("DELETE FROM diff_rows WHERE who = $1 AND k = $2", lambda m: [m.tag, m.key()]),
    (
        "SELECT $1::text || g FROM generate_series(1, $2::int) g",
        lambda m: [m.tag, str(m.rng.choice([0, 1, 3, 40]))],
    ),
    (
        "SELECT 12 / ($2::int + (random() * 0)::int), $1::text",
        lambda m: [m.tag, m.rng.choice(["0", "1", "3", None])],
    ),
    ("INSERT INTO diff_late VALUES ($1, $2) RETURNING who, k", lambda m: [m.tag, m.key()]),
    ("SELECT repeat($1, $2::int)", lambda m: [m.tag, str(m.rng.choice([1, 50, 5000]))]),
    ("SELECT $1::text, timestamptz '2024-02-29 12:00:00+00'", lambda m: [m.tag]),
    ("", lambda _: []),
]
BLOCKS = ["BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT a", "ROLLBACK TO a", "RELEASE a"]


@dataclass(slots=True)
class Step:
    """Bytes to send, and what to wait for before the next step.

    wait: "all" every ReadyForQuery that is owed; "none"; "G" the start of a COPY or every ReadyForQuery;
    "answer" one of `until` or an error; "mark" an error that names `mark`, then ReadyForQuery.
    only: "copy" only while a COPY waits for data, "fine" only if this batch had no error so far.
    end: "X" says goodbye, "close" closes, "reset" closes hard, each without reading on.
    """

    what: str
    data: bytes = b""
    answers: int = 0
    wait: str = "all"
    until: str = ""
    mark: str = ""
    only: str = ""
    end: str = ""


@dataclass(slots=True)
class Script:
    """All that one connection does."""

    tag: str
    parameters: dict[str, str]
    steps: list[Step]


class Maker:
    """Makes one script. The same arguments make the same script."""

    def __init__(self, seed: int, tag: str, mode: str, actions: int = 25) -> None:
        self.rng = random.Random(f"{seed}/{tag}/{mode}")
        self.tag = tag
        self.mode = mode
        self.actions = actions
        self.texts: dict[str, int] = {}  # what a name probably stands for
        self.marks = 0

    def script(self) -> Script:
        rng = self.rng
        parameters = {}
        if rng.random() < 0.5:
            parameters["TimeZone"] = rng.choice(ZONES)
        if rng.random() < 0.3:
            parameters["DateStyle"] = rng.choice(STYLES)
        parameters["application_name"] = self.tag
        if self.mode == "session":
            parameters = {}  # RESET and DISCARD would go back to them only on a connection of one's own
        steps: list[Step] = []
        kinds = [(w, f) for w, f, modes in self._kinds() if modes == "all" or self.mode in modes.split()]
        for _ in range(self.actions):
            steps += rng.choices([f for _, f in kinds], [w for w, _ in kinds])[0]()
        if rng.random() < 0.25:
            steps += self.disconnect()
        else:
            steps.append(Step("drain"))
            steps.append(Step("goodbye", wire.terminate(), wait="none", end="X"))
        return Script(self.tag, parameters, steps)

    def _kinds(self) -> list[tuple[int, Callable[[], list[Step]], str]]:
        return [
            (10, self.simple, "all"),
            (25, self.batch, "all"),
            (12, self.pipeline, "all"),
            (8, self.transaction, "session transaction"),
            (5, self.block, "session transaction"),
            (4, self.flushed, "all"),
            (5, self.rows_by_portions, "all"),
            (4, self.copy_out, "all"),
            (4, self.copy_in_blind, "all"),
            (4, self.copy_in_libpq, "all"),
            (3, self.copy_in_extended, "all"),
            (3, self.function, "all"),
            (3, self.odd_order, "all"),
            (3, self.parameter, "all"),
            (2, self.own_table, "all"),
            (2, self.forget_all, "all"),
            (5, self.session_state, "session"),
        ]

    # --- words

    def word(self) -> str:
        return self.tag + self.rng.choice(["", "x", "y" * 40, "é'\"\\", "z" * 3000])

    def key(self) -> str:
        return str(self.rng.randrange(8))

    def name(self) -> str:
        return self.rng.choice(NAMES)

    def sql(self) -> str:
        """One statement for a simple query."""
        rng, t = self.rng, self.tag
        return rng.choice(
            [
                f"SELECT '{t}', g FROM generate_series(1, {rng.choice([0, 2, 30])}) g",
                f"INSERT INTO diff_rows VALUES ('{t}', {self.key()}, '{t}')",
                f"SELECT * FROM diff_rows WHERE who = '{t}' ORDER BY k",
                f"DELETE FROM diff_rows WHERE who = '{t}'",
                f"SELECT '{t}' FROM nowhere",
                f"SELECT 1/0, '{t}'",
                f"SELEC '{t}'",
                f"SELECT '{t}'::int",
                f"DO $$BEGIN RAISE NOTICE '{t}'; END$$",
                f"DO $$BEGIN RAISE EXCEPTION '{t}'; END$$",
                f"INSERT INTO diff_late VALUES ('{t}', {self.key()})",
                f"SELECT repeat('{t}', {rng.choice([10, 1000, 40000])})",
                "SELECT timestamptz '2024-02-29 12:00:00+00', interval '1 day'",
                "SHOW TimeZone",
                "",
                "; ;",
            ]
        )

    # --- simple queries

    def simple(self) -> list[Step]:
        parts = [self.sql() for _ in range(self.rng.choice([1, 1, 1, 2, 4]))]
        if self.mode != "statement" and self.rng.random() < 0.2:
            parts.insert(self.rng.randrange(len(parts) + 1), self.rng.choice(BLOCKS))
        text = ";".join(parts)
        return [Step(f"simple {text[:80]}", wire.query(text), 1)]

    def block(self) -> list[Step]:
        text = self.rng.choice(BLOCKS)
        if self.rng.random() < 0.5:
            return [Step(text, wire.query(text), 1)]
        return [Step(f"{text} extended", wire.parse(text) + wire.bind() + wire.execute() + wire.sync(), 1)]

    def transaction(self) -> list[Step]:
        steps = [Step("BEGIN", wire.query("BEGIN"), 1)]
        kinds = [
            self.simple,
            self.batch,
            self.pipeline,
            self.flushed,
            self.rows_by_portions,
            self.block,
            self.cursor,
            self.copy_in_libpq,
            self.local,
        ]
        for _ in range(self.rng.randrange(4)):
            steps += self.rng.choice(kinds)()
        text = self.rng.choice(["COMMIT", "ROLLBACK", "COMMIT", "COMMIT AND CHAIN", "END"])
        return [*steps, Step(text, wire.query(text), 1)]

    def cursor(self) -> list[Step]:
        text = f"DECLARE c CURSOR FOR SELECT '{self.tag}', g FROM generate_series(1, 9) g; FETCH 2 FROM c"
        return [Step("cursor", wire.query(text), 1), Step("fetch", wire.query("FETCH 3 FROM c; CLOSE c"), 1)]

    def local(self) -> list[Step]:
        zone = self.rng.choice(ZONES)
        return [Step(f"SET LOCAL {zone}", wire.query(f"SET LOCAL TimeZone = '{zone}'; SHOW TimeZone"), 1)]

    # --- the extended protocol

    def use(self, name: str | None = None) -> bytes:
        """Some messages that use a statement: by a name defined earlier, newly defined, or unnamed."""
        rng = self.rng
        name = rng.choice([*NAMES, "", "", ""]) if name is None else name
        data = b""
        known = self.texts.get(name)
        if known is None or rng.random() < (0.15 if name else 0.6):
            known = rng.randrange(len(SHARED))
            if name and name in self.texts and rng.random() < 0.8:
                data += wire.close(name)
            types = [25] if rng.random() < 0.2 and SHARED[known][0] else []
            data += wire.parse(self.text(known), name, types)
            self.texts[name] = known
        if rng.random() < 0.3:
            data += wire.describe(name)
        values = SHARED[known][1](self) if known < len(SHARED) else []
        if rng.random() < 0.04:
            values = [*values, "1"]
        portal = rng.choice(["", "", "", "p"])
        data += wire.bind(values, name, portal)
        if rng.random() < 0.6:
            data += wire.describe(portal, "P")
        data += wire.execute(portal, rng.choice([0, 0, 0, 0, 2]))
        if rng.random() < 0.1:
            data += wire.close(portal, "P")
        if name and rng.random() < 0.08:
            data += wire.close(name)
            self.texts.pop(name, None)
        return data

    def text(self, number: int) -> str:
        return SHARED[number][0]

    def fault(self) -> bytes:
        """Messages that fail, for certain or in some states."""
        return self.rng.choice(
            [
                wire.parse(f"SELEC '{self.tag}'", self.rng.choice(["", "s1", "bad"])),
                wire.bind([], "no such statement"),
                wire.describe("unknown " + self.tag),
                wire.describe("no portal", "P"),
                wire.execute("no portal"),
                wire.bind([], self.name()),
                wire.parse("SELECT $1 + 1, 'again'", self.name()),
                wire.parse("SELECT 1; SELECT 2"),
                wire.bind(["x" * 70000], ""),
            ]
        )

    def batch(self) -> list[Step]:
        data = b"".join(self.part() for _ in range(self.rng.choice([1, 1, 2, 3])))
        return [Step("batch", data + wire.sync(), 1)]

    def part(self) -> bytes:
        roll = self.rng.random()
        if roll < 0.08:
            return self.fault()
        if roll < 0.12:
            return wire.close(self.name())
        return self.use()

    def pipeline(self) -> list[Step]:
        """Several batches and queries in flight, sent in one or more writes."""
        steps = []
        for _ in range(self.rng.randrange(2, 7)):
            roll = self.rng.random()
            if roll < 0.15:
                step = self.simple()[0]
            elif roll < 0.25 and self.mode != "statement":
                step = self.block()[0]
            elif roll < 0.3:
                step = Step("sync", wire.sync(), 1)
            else:
                step = self.batch()[0]
            step.wait = "none"
            steps.append(step)
        if self.rng.random() < 0.5:
            one = b"".join(s.data for s in steps)
            return [Step("pipeline: " + ", ".join(s.what for s in steps), one, sum(s.answers for s in steps))]
        return [*steps, Step("end of pipeline")]

    def flushed(self) -> list[Step]:
        text = f"SELECT '{self.tag}', g FROM generate_series(1, 5) g"
        steps = [Step("parse, flush", wire.parse(text, "") + wire.flush(), wait="answer", until="1")]
        steps.append(
            Step(
                "bind, describe, flush",
                wire.bind() + wire.describe("", "P") + wire.flush(),
                wait="answer",
                until="Tn",
                only="fine",
            )
        )
        if self.mode != "statement" and self.rng.random() < 0.3:
            return [
                *steps,
                Step(
                    "query instead of sync",
                    self.marked(wire.query(self.sql())),
                    wait="mark",
                    mark=self.mark(),
                ),
            ]
        steps.append(
            Step("execute, flush", wire.execute() + wire.flush(), wait="answer", until="CIs", only="fine")
        )
        return [*steps, Step("sync", wire.sync(), 1)]

    def rows_by_portions(self) -> list[Step]:
        text = "SELECT $1::text || g FROM generate_series(1, $2::int) g"
        name = self.rng.choice(["", "rows"])
        data = (
            wire.close(name)
            + wire.parse(text, name)
            + wire.bind([self.tag, "9"], name, "p")
            + wire.execute("p", 4)
        )
        if self.rng.random() < 0.5:
            data += wire.flush()
            more = wire.execute("p", 3) + wire.execute("p", 0) + wire.close("p", "P") + wire.sync()
            return [Step("portion", data, wait="answer", until="sC"), Step("more portions", more, 1)]
        return [
            Step("portion, sync", data + wire.sync(), 1),
            Step("portal later", wire.execute("p", 3) + wire.sync(), 1),
        ]

    def odd_order(self) -> list[Step]:
        """Orders that no driver sends."""
        use, q = self.use(), wire.query(f"SELECT '{self.tag}'")
        bad = wire.parse("no sql")
        data = self.rng.choice(
            [
                # PostgreSQL 18 reports a transaction block when a batch is not ended by Sync.
                use + q + use if self.mode != "statement" else q + use,
                bad + q + wire.flush() + use + wire.sync() + q,
                wire.sync() * 3 + use + wire.sync() * 2,
                wire.copy_data("lost\n") + wire.copy_done() + wire.sync(),
                use + wire.copy_fail() + use,
                wire.describe("s1") * 3 + wire.close("s1") * 2 + wire.describe("s1"),
                wire.parse("SELECT 1", "a")
                + wire.close("a")
                + wire.parse("SELECT 2", "a")
                + wire.bind([], "a")
                + wire.execute()
                + wire.close("a"),
                bad + wire.function_call(1258, b"a", b"b") + wire.copy_done() + wire.sync() + use,
                wire.bind() + wire.execute() + wire.sync() + wire.bind() + wire.execute(),
            ]
        )
        return [Step("odd order", self.marked(data), wait="mark", mark=self.mark())]

    def mark(self) -> str:
        return f"mark{self.marks}"

    def marked(self, data: bytes) -> bytes:
        """With an end that is recognised in whatever state the connection is."""
        self.marks += 1
        return data + wire.sync() + wire.query(f"mark{self.marks}")

    # --- COPY, functions

    def copy_lines(self) -> bytes:
        lines = []
        for _ in range(self.rng.choice([0, 1, 3, 200])):
            bad = self.rng.random() < 0.02
            lines.append(
                wire.copy_data(f"{self.tag}\t{'x' if bad else self.rng.randrange(8, 10**6)}\t{self.tag}\n")
            )
        return b"".join(lines)

    def copy_statement(self) -> bytes:
        """By a name of its own: as the unnamed statement a later step could run it, and would hang."""
        return wire.close("copy") + wire.parse("COPY diff_rows FROM STDIN", "copy") + wire.bind([], "copy")

    def copy_end(self) -> bytes:
        return wire.copy_fail(f"because of {self.tag}") if self.rng.random() < 0.2 else wire.copy_done()

    def copy_out(self) -> list[Step]:
        rows = self.rng.choice([0, 3, 500])
        text = f"COPY (SELECT '{self.tag}', g FROM generate_series(1, {rows}) g) TO STDOUT"
        if self.rng.random() < 0.5:
            return [Step("COPY out", wire.query(f"{text}; SELECT '{self.tag}'"), 1)]
        return [Step("COPY out extended", wire.parse(text) + wire.bind() + wire.execute() + wire.sync(), 1)]

    def copy_in_blind(self) -> list[Step]:
        """Everything in one go, whatever the server says."""
        data = self.copy_lines() + self.copy_end()
        if self.rng.random() < 0.5:
            text = self.rng.choice(
                ["COPY diff_rows FROM STDIN", "SELECT 1; COPY diff_rows FROM STDIN; SELECT 2"]
            )
            return [Step("COPY in blind", wire.query(text) + data, 1)]
        head = self.copy_statement() + wire.execute()
        return [Step("COPY in extended blind", head + data + wire.sync(), 1)]

    def copy_in_libpq(self) -> list[Step]:
        """Wait for CopyInResponse; a Sync is sent with the Execute, as libpq does."""
        more = self.copy_lines()
        if self.rng.random() < 0.5:
            return [
                Step("COPY in", wire.query("COPY diff_rows FROM STDIN"), 1, wait="G"),
                Step("data", more + self.copy_end(), only="copy"),
            ]
        head = self.copy_statement() + wire.describe("", "P") + wire.execute()
        return [
            Step("COPY in extended", head + wire.sync(), 1, wait="G"),
            Step("data, sync", more + self.copy_end() + wire.sync(), only="copy"),
        ]

    def copy_in_extended(self) -> list[Step]:
        """The Sync comes with the end of the data; what follows is pipelined behind."""
        head = self.copy_statement() + wire.execute() + wire.flush()
        return [
            Step("COPY in, flush", head, wait="answer", until="G"),
            Step(
                "data and more",
                self.copy_lines() + self.copy_end() + self.use() + wire.sync() + self.use() + wire.sync(),
                2,
            ),
        ]

    def function(self) -> list[Step]:
        """textcat(text, text), and int4div by zero."""
        if self.rng.random() < 0.3:
            return [Step("failing function", wire.function_call(154, b"\0\0\0\1", b"\0\0\0\0"), 1)]
        return [Step("function", wire.function_call(1258, self.tag.encode(), b"|"), 1)]

    # --- state

    def parameter(self) -> list[Step]:
        name, value = self.rng.choice(
            [
                ("TimeZone", self.rng.choice(ZONES)),
                ("DateStyle", self.rng.choice(STYLES)),
                ("application_name", self.tag),
                ("IntervalStyle", self.rng.choice(["iso_8601", "postgres"])),
                ("client_encoding", self.rng.choice(["UTF8", "UTF8", "LATIN1"])),
                ("TimeZone", "Not/AZone"),
            ]
        )
        probe = "SELECT timestamptz '2024-02-29 12:00:00+00', interval '1 day 2 hours'"
        return [Step(f"SET {name} = {value}", wire.query(f"SET {name} = '{value}'; {probe}"), 1)]

    def own_table(self) -> list[Step]:
        """DDL, on a table that nobody else has and that never reaches an answer by its object id."""
        name = "own_" + self.tag.strip("<>")
        text = self.rng.choice(
            [
                f"CREATE TABLE {name} (v text)",
                f"ALTER TABLE {name} ADD w{self.key()} int",
                f"DROP TABLE {name}",
                f"INSERT INTO {name} VALUES ('{self.tag}')",
            ]
        )
        return [Step(text, wire.query(text), 1)]

    def forget_all(self) -> list[Step]:
        if self.rng.random() < 0.5:
            self.texts.clear()
        text = "DEALLOCATE ALL" if self.mode != "session" or self.rng.random() < 0.5 else "DISCARD ALL"
        return [Step(text, wire.query(text), 1)]

    def session_state(self) -> list[Step]:
        """What belongs to a session."""
        t = self.tag
        text = self.rng.choice(
            [
                f"CREATE TEMP TABLE tmp_t AS SELECT '{t}' AS v",
                "SELECT v || '' FROM tmp_t",
                "DROP TABLE tmp_t",
                f'LISTEN "{t}"',
                f"NOTIFY \"{t}\", '{t}'",
                f"PREPARE q AS SELECT '{t}'",
                "EXECUTE q",
                "DEALLOCATE q",
                f"SET my.{t.strip('<>')} = '{t}'",
                f"SHOW my.{t.strip('<>')}",
                "SET work_mem = '2MB'",
                "SHOW work_mem",
                "RESET ALL",
                f"DECLARE h CURSOR WITH HOLD FOR SELECT '{t}'",
                "FETCH 1 FROM h",
                "DEALLOCATE s1",
            ]
        )
        return [Step(text, wire.query(text), 1)]

    def disconnect(self) -> list[Step]:
        """Leave in the middle of something."""
        how = self.rng.choice(["close", "reset", "X"])
        first = self.rng.choice(
            [
                [],
                self.pipeline(),
                [Step("COPY in", wire.query("COPY diff_rows FROM STDIN") + self.copy_lines(), 1)],
                [
                    Step(
                        "huge",
                        wire.query(f"SELECT repeat('{self.tag}', 1000), g FROM generate_series(1, 2000) g"),
                        1,
                    )
                ],
                [
                    Step(
                        "BEGIN",
                        wire.query(f"BEGIN; SELECT '{self.tag}'" if self.mode != "statement" else "SELECT 1"),
                        1,
                    )
                ],
                [Step("half a message", wire.query(f"SELECT '{self.tag}'")[:9])],
                [Step("half a batch", self.use())],
            ]
        )
        for step in first:
            step.wait = "none"
        return [*first, Step(f"leave ({how})", wire.terminate() if how == "X" else b"", wait="none", end=how)]
