"""Who the isolation adversary is watched by: witnesses without state, keepers with state, listeners."""

import random
from collections.abc import Callable, Collection, Mapping, Sequence

from pgferry.client import Address
from support import adversary_schema as schema
from support import wire
from support.adversary_clients import Asker, Stage
from support.differential import Difference
from support.wire import Message

# What differs between any two sessions, or from moment to moment.
_NO_STATE = "'transaction_isolation', 'transaction_read_only', 'transaction_deferrable', 'application_name'"
_NAMES = ", ".join(f"('{name}')" for name in schema.CUSTOM)
LITERALS = (
    "SELECT '01/02/2003'::date::text || '', '2024-02-29 12:00:00'::timestamptz = '2024-02-29 12:00:00+00', "
    "extract(epoch FROM '2024-02-29 12:00:00'::timestamptz)::text, '1 day 2 hours'::interval::text, "
    "length('a\\\\b')::text, (1 = NULL)::text, length('é')::text"
)
# The first column, which is not compared, is the server's process id.
QUESTIONS = {
    "settings": "SELECT pg_backend_pid(), string_agg(name || '=' || setting, chr(10) ORDER BY name)"
    f" FROM pg_catalog.pg_settings WHERE name NOT IN ({_NO_STATE}) AND name !~ '[.]'",
    "custom": "SELECT pg_backend_pid(), string_agg(n || '=' || coalesce(current_setting(n, true), ''), chr(10))"
    f" FROM (VALUES {_NAMES}, ('app.from_role')) AS v(n)",
    "person": "SELECT pg_backend_pid(), current_user || '', session_user || '', current_setting('role'),"
    " current_schemas(false)::text",
    "names": "SELECT pg_backend_pid(), label, whoami() FROM things",
    "path": "SELECT pg_backend_pid(), current_setting('search_path'), current_setting('statement_timeout')",
    "session": "SELECT pg_backend_pid(),"
    " (SELECT string_agg(name || statement, ',') FROM pg_prepared_statements WHERE name !~ '^w_'),"
    " (SELECT string_agg(name, ',') FROM pg_cursors WHERE is_holdable),"
    " (SELECT string_agg(c, ',') FROM pg_listening_channels() c),"
    " (SELECT string_agg(mode || objid, ',') FROM pg_locks"
    " WHERE locktype = 'advisory' AND pid = pg_backend_pid()),"
    " (SELECT string_agg(relname || '', ',') FROM pg_class WHERE relnamespace = pg_my_temp_schema())",
    "literals": LITERALS.replace("SELECT ", "SELECT pg_backend_pid(), ", 1),
    "shared": LITERALS.replace("SELECT ", "SELECT 0, ", 1),
    "last": "SELECT pg_backend_pid(), lastval()",
    "slow": "SELECT pg_backend_pid(), pg_sleep(0.025)::text",
    "isolation": "SELECT pg_backend_pid(), current_setting('transaction_isolation'),"
    " current_setting('transaction_read_only')",
    "tenant": "SELECT pg_backend_pid(), nullif(current_setting('app.tenant', true), '')",
}
QUESTIONS["all"] = ", ".join(
    QUESTIONS[name].removeprefix("SELECT pg_backend_pid(), ") if n else QUESTIONS[name]
    for n, name in enumerate(["path", "person", "literals", "tenant"])
) + (
    f", (SELECT string_agg(n || '=' || coalesce(current_setting(n, true), ''), chr(10)) FROM (VALUES {_NAMES}) AS v(n))"
    ", (SELECT string_agg(mode || objid, ',') FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())"
    ", current_setting('lock_timeout'), current_setting('work_mem'), current_setting('default_transaction_isolation')"
    ", (SELECT label FROM things), whoami()"
)
RECENT = (
    "SELECT pg_backend_pid(), string_agg(n || '=' || current_setting(n, true), ' ')"
    " FROM unnest($1::text[]) n WHERE current_setting(n, true) <> ''"
)
_FREQUENT = [*QUESTIONS, *["all"] * 8, "names", "path", "settings", "custom", "shared", *["recent"] * 6]
Answer = list[tuple[str, object]]


def essence(messages: Sequence[Message]) -> Answer:
    """What is compared of an answer: rows without the first column, errors, tags."""
    made: Answer = []
    for got in messages:
        if got.type == "D":
            made.append(("D", got.row[1:]))
        elif got.type == "E":
            made.append(("E", (got.sqlstate, got.text if got.sqlstate != "55000" else "")))
        elif got.type in "CZ":
            made.append((got.type, got.body))
    return made


def right_answers(address: Address, database: str, user: str) -> dict[str, Answer]:
    """What each question is answered in a fresh session."""
    made = {}
    for name, text in QUESTIONS.items():
        with wire.Wire.login(address, user, database, application_name="adversary") as connection:
            made[name] = essence(connection.query(text))
    return made


def right_parameters(address: Address, database: str, user: str) -> dict[str, str]:
    """The ParameterStatus of a fresh session."""
    with wire.Wire.login(address, user, database, application_name="adversary") as connection:
        return dict(connection.parameters)


class Witness(Asker):
    """Has no state at all."""

    def __init__(
        self,
        stage: Stage,
        name: str,
        user: str,
        rng: random.Random,
        right: Mapping[str, Answer],
        parameters: Mapping[str, str],
        names: Sequence[str],
    ) -> None:
        super().__init__(stage, name, user, rng, 0.006)
        none: Answer = [("D", [None]), ("C", b"SELECT 1\0"), ("Z", b"I")]
        self.right, self.parameters = {**right, "recent": none}, parameters
        self.names = "{" + ",".join(names) + "}"  # custom settings of this round
        self.question = ""
        self.block = False
        self.known: set[str] = set()

    def begin(self) -> None:
        self.known = set()
        assert self.current is not None
        if self.current.parameters != self.parameters:
            both = self.parameters.items() ^ self.current.parameters.items()
            raise Difference(f"{self.name}: at login {sorted(both)} is not as directly")

    def ask(self) -> tuple[bytes, int]:
        rng = self.rng
        self.question = rng.choice(_FREQUENT)
        if self.question == "recent":
            self.block = False
            return wire.parse(RECENT) + wire.bind([self.names]) + wire.execute() + wire.sync(), 1
        text = QUESTIONS[self.question]
        self.block = rng.random() < 0.1 and self.question != "last"
        if self.block:
            return wire.query("BEGIN") + wire.query(text) + wire.query("COMMIT"), 3
        how = rng.random()
        if how < 0.4:
            return wire.query(text), 1
        rest = wire.execute() + wire.sync()
        if how < 0.7 or self.question == "session":
            return wire.parse(text) + wire.bind() + rest, 1
        name = "w_" + self.question
        first = b"" if name in self.known else wire.parse(text, name)
        self.known.add(name)
        return first + wire.bind((), name) + rest, 1

    def check_answer(self, answer: list[Message]) -> None:
        got = essence(answer)
        if self.block:
            got = got[2:-2]
            if got and got[-1][0] == "Z":
                got[-1] = ("Z", b"I")
        changed = [m.parameter for m in answer if m.type == "S"]
        if got == self.right[self.question] and not changed and not any(m.type == "A" for m in answer):
            return
        pid = next((m.row[0] for m in answer if m.type == "D"), None)
        raise Difference(
            f"{self.name} ({self.user}), who has no state, asked for {self.question!r}, server {pid!r}:\n"
            f"{unlike(self.right[self.question], got)}" + (f"\n  told of {changed}" if changed else "")
        )

    def died(self, got: Message) -> None:
        super().died(got)
        self.known = set()


def unlike(right: Answer, got: Answer) -> str:
    """The parts of two answers that are not the same, long texts line by line."""
    shown = []
    for n in range(max(len(right), len(got))):
        a = right[n] if n < len(right) else ("nothing", None)
        b = got[n] if n < len(got) else ("nothing", None)
        if a != b:
            shown.append(f"  right: {_lines(a, b)}\n  got:   {_lines(b, a)}")
    return "\n".join(shown)


def _lines(one: tuple[str, object], other: tuple[str, object]) -> str:
    if one[0] != other[0] or one[0] != "D":
        return str(one)
    assert isinstance(one[1], list) and isinstance(other[1], list)
    made = []
    for a, b in zip(one[1], other[1], strict=False):
        if a != b:
            there = set((b or b"").split(b"\n"))
            made.append(b" | ".join(x for x in a.split(b"\n") if x not in there) if a is not None else None)
    return str(made)


# --- keepers

_KEPT: dict[str, Sequence[str]] = {
    "search_path": ("adv_t0", "adv_t1", "adv_t2", "public"),
    "app.tenant": ("k0", "k1", "it's", "a\\b", "é", "ソ表", "$$;--"),
    "app.keeper": ("one", "two", '"', "x" * 300),
    "TimeZone": ("Asia/Tokyo", "America/Caracas", "UTC"),
    "DateStyle": ("German, DMY", "SQL, DMY", "ISO, MDY", "ISO, DMY"),
    "IntervalStyle": ("iso_8601", "postgres"),
    "work_mem": ("2MB", "3MB"),
    "standard_conforming_strings": ("on", "off"),
    schema.LONG: ("long", "longer"),
}
_LABELS = {"adv_t0": "tenant 0", "adv_t1": "tenant 1", "adv_t2": "tenant 2", "public": "public"}
_CHECK = "SELECT pg_backend_pid(), current_user || '', (SELECT label FROM things), " + ", ".join(
    f"current_setting('{name}', true)" for name in _KEPT
)


class Keeper(Asker):
    """Has state of its own, changes it now and then, and knows what it is."""

    def __init__(
        self,
        stage: Stage,
        name: str,
        user: str,
        rng: random.Random,
        role: str,
        encoding: str = "UTF8",
        without: Collection[str] = (),
    ) -> None:
        super().__init__(stage, name, user, rng, 0.02)
        self.role = role  # the server's own
        self.encoding = encoding = "UTF8" if "codecs" in without else encoding
        self.names = [n for n in _KEPT if n != schema.LONG or "long" not in without]
        self.without = without
        self.codec = {"UTF8": "utf-8", "SJIS": "cp932", "LATIN1": "latin-1", "GBK": "gbk"}[encoding]
        self.state: dict[str, str] = {}
        self.person = role
        self.asked = ""
        self.history: list[str] = []
        self.prepared = ""
        self.start: dict[str, str] = {}
        if rng.random() < 0.5:
            self.start = {"search_path": rng.choice(_KEPT["search_path"])}

    def startup(self) -> Mapping[str, str]:
        return {"application_name": "adversary", "client_encoding": self.encoding, **self.start}

    def begin(self) -> None:
        self.state = dict(self.start)
        self.person = self.role
        self.prepared = ""

    def value(self, name: str, bound: bool = False) -> str:
        """One that its encoding has. In a text (not `bound`) the byte 0x5C as half of a character would pin it."""
        while True:
            value = self.rng.choice(_KEPT[name])
            try:
                encoded = value.encode(self.codec)
            except UnicodeEncodeError:
                continue
            if self.codec in ("cp932", "gbk") and ("\\" in value or (b"\\" in encoded and not bound)):
                continue
            return value

    def ask(self) -> tuple[bytes, int]:
        """One of the kinds of transactions, with what is expected of it."""
        kind: Callable[[], tuple[bytes, int]] = self.rng.choice(
            [*[self.change] * 3, *[self.check] * 4, self.undone, self.statement, self.reset, self.discard]
        )
        made = kind()
        self.history.append(self.asked[:60])
        return made

    def change(self) -> tuple[bytes, int]:
        rng = self.rng
        if rng.random() < 0.15:
            person = rng.choice([self.role, *schema.ROLES])
            self.person = person
            self.asked = f"SET ROLE {person}"
            return self._sent("RESET ROLE" if person == self.role else self.asked), 1
        name = rng.choice(self.names)
        bound = rng.random() < 0.5
        value = self.value(name, bound)
        self.asked = f"set {name} = {value!r}"
        self.state[name] = value
        if bound:
            data = wire.parse("SELECT set_config($1, $2, false)")
            encoded = value.encode(self.codec)
            return data + wire.bind([name, encoded]) + wire.execute() + wire.sync(), 1
        return self._sent(f"SET {name} = {self._literal(value)}"), 1

    def undone(self) -> tuple[bytes, int]:
        name = self.rng.choice(self.names)
        self.asked = f"set {name} and roll back"
        text = f"SET {name} = {self._literal(self.value(name))}"
        if self.rng.random() < 0.4:
            text = text.replace("SET ", "SET LOCAL ", 1)
            return self._sent("BEGIN") + self._sent(text) + self._sent("COMMIT"), 3
        return self._sent("BEGIN") + self._sent(text) + self._sent("ROLLBACK"), 3

    def reset(self) -> tuple[bytes, int]:
        """Back to the values of the startup packet, one or all."""
        name = self.rng.choice(self.names)
        self.asked = f"RESET {name}"
        if self.rng.random() < 0.3:
            twice = "RESET ALL" if "several" in self.without else f"RESET ALL; RESET {name}"
            self.asked = self.rng.choice(["RESET ALL", twice])
            self.state = dict(self.start)
        else:
            self.state.pop(name, None)
            self.state.update({k: v for k, v in self.start.items() if k == name})
        return self._sent(self.asked), 1

    def discard(self) -> tuple[bytes, int]:
        """Everything is gone but the start values, whatever fails behind it."""
        self.asked = "DISCARD ALL"
        self.begin()
        if self.rng.random() < 0.4 or "discard" in self.without:
            return self._sent("DISCARD ALL"), 1
        self.asked = "DISCARD ALL and an error"
        batch = [wire.parse(text) + wire.bind() + wire.execute() for text in ("DISCARD ALL", "SELECT 1/0")]
        return b"".join(batch) + wire.sync(), 1

    def check(self) -> tuple[bytes, int]:
        self.asked = "check"
        if self.rng.random() < 0.5:
            return wire.query(_CHECK), 1
        return wire.parse(_CHECK, "check") + wire.bind((), "check") + wire.execute() + wire.close(
            "check"
        ) + wire.sync(), 1

    def statement(self) -> tuple[bytes, int]:
        """A prepared statement of its own, and a text that others prepare as well."""
        if not self.prepared:
            self.prepared = f"{self.name} {self.rng.randrange(10**6)}"
            self.asked = "PREPARE"
            return self._sent(f"PREPARE adv_kept AS SELECT 0, '{self.prepared}'::text"), 1
        if self.rng.random() < 0.5 or "literals" in self.without:
            self.asked = "execute"
            return wire.query("EXECUTE adv_kept"), 1
        self.asked = "literals"
        text = "SELECT 0, '01/02/2003'::date::text || ''"
        return wire.parse(text) + wire.bind() + wire.execute() + wire.sync(), 1

    def doing(self) -> str:
        return str(self.history[-3:])

    def unasked(self, got: Message) -> None:
        """PostgreSQL's parameters may be told once more when its settings are set back."""
        if got.type != "S":
            super().unasked(got)

    def check_answer(self, answer: list[Message]) -> None:
        failed = [m.fields for m in answer if m.type == "E"]
        if self.asked.endswith("and an error"):
            failed = [fields for fields in failed if fields["C"] != "22012"]
        told = [m for m in answer if m.type == "A"]
        rows = [
            [None if v is None else v.decode(self.codec, "replace") for v in m.row]
            for m in answer
            if m.type == "D"
        ]
        if failed or told:
            raise Difference(
                f"{self.name}, {self.asked}: {failed} {told};"
                f" state {self.state}, start {self.start}; it did {self.history[-8:]}"
            )
        if self.asked == "check":
            self._compare(rows[0])
        elif self.asked == "execute" and rows[0][1] != self.prepared:
            raise Difference(f"{self.name}: EXECUTE of its own {self.prepared!r} gave {rows}")
        elif self.asked == "literals":
            self._compare_date(rows[0][1])

    def _compare_date(self, got: str | None) -> None:
        style, _, order = self.state.get("DateStyle", "ISO, MDY").partition(", ")
        day, month = ("02", "01") if order == "MDY" else ("01", "02")
        first, second = (month, day) if order == "MDY" else (day, month)
        right = {
            "German": f"{day}.{month}.2003",
            "SQL": f"{first}/{second}/2003",
            "ISO": f"2003-{month}-{day}",
        }
        if got != right[style]:
            raise Difference(f"{self.name}: 01/02/2003 with DateStyle {style}, {order} is {got!r}")

    def _compare(self, row: list[str | None]) -> None:
        path = self.state.get("search_path", "public")
        wanted: list[str | None] = [self.person, _LABELS[path]]
        for name in _KEPT:
            wanted.append(self.state.get(name))
        got = row[1:]
        for name, a, b in zip(["role", "label", *_KEPT], wanted, got, strict=True):
            if (a is not None and a != b) or (a is None and "." in name and b not in (None, "")):
                raise Difference(
                    f"{self.name} (server {row[0]}) keeps {name} = {a!r}, but has {b!r};"
                    f" state {self.state}, start {self.start}; it did {self.history[-8:]}"
                )

    def _sent(self, text: str) -> bytes:
        return wire.query(text.encode(self.codec))

    def _literal(self, value: str) -> str:
        """That means the same whatever standard_conforming_strings is."""
        if "\\" in value:
            return "E'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
        return "'" + value.replace("'", "''") + "'"
