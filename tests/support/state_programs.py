"""Random programs that keep session state: what one client sends, made from a seed and a tag nobody else has.

Values carry the tag wherever they may be any text. Answers are the same whenever a program is run alone or among
others on the objects of state_schema: no process ids, no times, no object ids. `focus` names the kinds of state
that a program uses; the questions it asks are about all of them.
"""

import random
from collections.abc import Callable, Sequence

from support import wire
from support.scripts import Script, Step
from support.state_schema import APP, ROLES, TENANTS
from support.state_values import CUSTOM, NAMES, Values, literal, question

KINDS = ("settings", "role", "prepared", "listen", "temp", "locks", "cursors", "sequences", "base", "forever")
STATEMENTS = ["s1", "s2", "s3"]  # protocol level
LATER = "later currval"  # may be answered by an error instead
NOTES = "notes"  # a step that waits for the notifications a direct connection has got by then

Action = Callable[[], list[Step]]


class StateMaker:
    """Makes one program. The same arguments make the same program."""

    def __init__(
        self, seed: int, slot: int, tag: str, focus: Sequence[str] = KINDS, actions: int = 22
    ) -> None:
        self.rng = random.Random(f"{seed}/{slot}/{tag}")
        self.tag = tag
        self.word = tag.strip("<>")
        self.key = int(self.word, 36)
        self.sequence = f"public.seq_{slot}"
        self.focus = focus
        self.actions = actions
        self.values = Values(self.rng, tag)
        self.superuser = self.rng.random() < 0.5
        self.notified = False
        self.kinds = self._kinds()

    def program(self) -> Script:
        steps = [*self.ask()]
        for _ in range(self.actions):
            steps += self.transaction() if self.rng.random() < 0.25 else self.action()
            if self.notified:
                steps += self.heard()
            if self.rng.random() < 0.4:
                steps += self.ask()
        steps += [Step("drain"), *self.heard()]
        if self.rng.random() < 0.35:
            steps += self.disconnect()
        else:
            steps.append(Step("goodbye", wire.terminate(), wait="none", end="X"))
        return Script(self.tag, self.startup(), steps)

    def startup(self) -> dict[str, str]:
        """Parameters of the startup packet, settings among them, some within `options`."""
        rng = self.rng
        parameters = {"user": "postgres" if self.superuser else APP}
        if "base" not in self.focus:
            return parameters
        if rng.random() < 0.7:
            parameters["application_name"] = self.tag
        for name in rng.sample(
            ["TimeZone", "DateStyle", "work_mem", "search_path", "app.start", "IntervalStyle"], 2
        ):
            if rng.random() < 0.5:
                parameters[name] = self.values.of(name).replace(" é", "")  # their encoding is not known
        options = []
        for name in rng.sample(["search_path", "statement_timeout", "work_mem", "app.x", "app.start"], 3):
            if rng.random() < 0.5:
                value = self.values.of(name).replace(" é", "").replace("\\", "\\\\")
                value = value.replace(" ", "\\ ").replace("\n", "\\\n")
                options.append(rng.choice([f"-c {name}={value}", f"--{name.replace('_', '-')}={value}"]))
        if options:
            parameters["options"] = " ".join(options)
        return parameters

    def _kinds(self) -> list[tuple[int, Action]]:
        everything: list[tuple[int, Action, str]] = [
            (12, self.set_plain, "settings"),
            (3, self.set_local, "settings"),
            (6, self.set_config, "settings"),
            (8, self.set_indirectly, "settings"),
            (4, self.reset, "settings"),
            (4, self.reset, "base"),
            (1, self.characteristics, "settings"),
            (5, self.role, "role"),
            (9, self.prepared, "prepared"),
            (6, self.protocol_statement, "prepared"),
            (7, self.listen, "listen"),
            (4, self.temp, "temp"),
            (4, self.lock, "locks"),
            (4, self.cursor, "cursors"),
            (3, self.sequence_use, "sequences"),
            (1, self.forever, "forever"),
        ]
        common: list[tuple[int, Action]] = [
            (2, self.discard),
            (3, self.failure),
            (4, self.several),
            (4, self.pipeline),
            (3, self.show),
        ]
        return [(w, f) for w, f, kind in everything if kind in self.focus] + common

    # --- how statements are sent

    def send(self, sql: str, values: Sequence[str] = ()) -> list[Step]:
        """One statement, by the simple or the extended protocol."""
        if not values and self.rng.random() < 0.5:
            return [Step(sql[:160], wire.query(sql), 1)]
        return [Step(sql[:160], self.extended(sql, values) + wire.sync(), 1)]

    def extended(self, sql: str, values: Sequence[str] = ()) -> bytes:
        # A statement that shows pg_prepared_statements does not show itself through pgferry.
        name = self.rng.choice(["", "", "", "" if "FROM pg_" in sql else "once"])
        data = wire.close(name) if name else b""
        data += wire.parse(sql, name)
        if self.rng.random() < 0.3:
            data += wire.describe(name)
        return data + wire.bind(values, name) + wire.execute()

    def simple(self, sql: str) -> list[Step]:
        return [Step(sql[:160], wire.query(sql), 1)]

    def action(self) -> list[Step]:
        return self.rng.choices([f for _, f in self.kinds], [w for w, _ in self.kinds])[0]()

    def ask(self) -> list[Step]:
        """What a session can be asked about itself."""
        return self.send(question(self.tag, self.rng.choice(["all", "all", "settings", "path", "rest"])))

    def show(self) -> list[Step]:
        return self.send("SHOW " + self.rng.choice([*NAMES, "session_authorization", "role"]))

    def several(self) -> list[Step]:
        """Several statements in one text."""
        # Of a text with several statements only the PREPARE is kept when it moves, and shown then.
        parts = [self.text() for _ in range(self.rng.choice([2, 2, 3]))]
        parts = [part for part in parts if not part.lower().startswith("prepare")]
        if self.rng.random() < 0.2:
            parts.insert(self.rng.randrange(len(parts) + 1), self.rng.choice(["BEGIN", "COMMIT", "ROLLBACK"]))
        parts.append(question(self.tag, "path"))
        return self.simple("; ".join(parts))

    def text(self) -> str:
        """One statement that can stand among others: it does not wait for notifications."""
        choices: list[tuple[str, Callable[[], str]]] = [
            ("settings", self.plain_text),
            ("settings", self.reset_text),
            ("settings", self.config_text),
            ("role", self.role_text),
            ("prepared", self.prepared_text),
            ("temp", self.temp_text),
            ("locks", self.lock_text),
            ("cursors", self.cursor_text),
        ]
        made = [f for kind, f in choices if kind in self.focus]
        if not made or self.rng.random() < 0.1:
            return f"SELECT '{self.tag}' || label FROM things"
        return self.rng.choice(made)()

    def pipeline(self) -> list[Step]:
        """Several batches in flight, of several statements each, some of them whole transactions."""
        rng = self.rng
        parts = []
        for _ in range(rng.randrange(2, 6)):
            texts = [self.text() for _ in range(rng.choice([1, 1, 2, 3]))]
            if rng.random() < 0.3:
                texts.insert(rng.randrange(len(texts)), "BEGIN")
                texts.append(rng.choice(["COMMIT", "ROLLBACK", "ROLLBACK"]))
            elif rng.random() < 0.2:
                texts.append("ROLLBACK")  # of what the batch itself has begun
            batch = b"".join(self.extended(t) for t in texts) + wire.sync()
            simple = len(texts) == 1 and rng.random() < 0.3
            parts.append(wire.query(texts[0]) if simple else batch)
        parts += [wire.query("ROLLBACK"), wire.query(question(self.tag, "settings"))]
        return [Step("pipeline", b"".join(parts), len(parts))]

    def transaction(self) -> list[Step]:
        steps = self.send("BEGIN")
        depth = 0
        for _ in range(self.rng.randrange(1, 6)):
            roll = self.rng.random()
            if roll < 0.2:
                steps += self.send(f"SAVEPOINT p{depth}")
                depth += 1
            elif roll < 0.35 and depth:
                depth -= self.rng.randrange(2)
                steps += self.send(f"ROLLBACK TO p{max(depth - 1, 0)}")
            elif roll < 0.4 and depth:
                depth -= 1
                steps += self.send(f"RELEASE p{depth}")
            else:
                steps += self.action()
        ends = ["COMMIT", "COMMIT", "COMMIT", "END", "ROLLBACK", "ROLLBACK", "COMMIT AND CHAIN"]
        end = self.rng.choice(ends)
        if end.endswith("CHAIN") and any(b"listen" in step.data.lower() for step in steps):
            end = "COMMIT"  # whether UNLISTEN counts is known only when the chain is over
        steps += self.send(end)
        if end == "COMMIT AND CHAIN":
            steps += [*self.action(), *self.send(self.rng.choice(["COMMIT", "ROLLBACK"]))]
        return steps

    # --- settings and role

    def plain_text(self, default: bool = False) -> str:
        """A plain SET; `default`: of TIME ZONE also to the start value, which pgferry knows in plain texts only."""
        rng = self.rng
        name = rng.choice([*NAMES, *CUSTOM, "search_path", "app.tenant"])
        if name == "search_path" and rng.random() < 0.6:
            return f'SET search_path {rng.choice(["TO", "="])} {rng.choice(TENANTS)}, "{self.tag}"'
        if name == "TimeZone" and rng.random() < 0.4:
            zone = rng.choice(["'Asia/Tokyo'", "INTERVAL '-08:00' HOUR TO MINUTE", "-7"])
            if default:
                zone = rng.choice([zone, "LOCAL", "DEFAULT"])
            return f"SET {rng.choice(['', 'SESSION '])}TIME ZONE {zone}"
        value = self.values.path() if name == "search_path" else literal(self.values.of(name))
        return f"{rng.choice(['SET', 'SET', 'set session'])} {name} {rng.choice(['TO', '='])} {value}"

    def set_plain(self) -> list[Step]:
        return self.send(self.plain_text(default=True))

    def set_local(self) -> list[Step]:
        text = (
            self.plain_text()
            .replace("set session", "SET")
            .replace("SET SESSION", "SET")
            .replace("SET", "SET LOCAL", 1)
        )
        return self.send(text)

    def config_text(self) -> str:
        name = self.rng.choice([*NAMES, *CUSTOM])
        local = self.rng.choice(["false", "false", "true"])
        return f"SELECT set_config('{name}', {literal(self.values.of(name))}, {local})"

    def set_config(self) -> list[Step]:
        name = self.rng.choice([*NAMES, *CUSTOM])
        value = self.values.of(name)
        ways: list[tuple[str, list[str]]] = [
            (self.config_text(), []),
            (f"SELECT set_config('{name}', $1, false)", [value]),
            ("SELECT set_config($1, $2, false)", [name, value]),
            ("SELECT pg_catalog.set_config($2, $1, $3)", [value, name, self.rng.choice(["f", "t"])]),
            (f"SELECT set_config('{name[:4]}' || $1, $2, false)", [name[4:], value]),
            (
                "SELECT set_config(n, v, false) FROM (VALUES ($1, $2), ('app.last', $2)) a (n, v)",
                [name, value],
            ),
            (f"WITH a AS (SELECT set_config('{name}', $1, false) AS v) SELECT v FROM a", [value]),
        ]
        return self.send(*self.rng.choice(ways))

    def set_indirectly(self) -> list[Step]:
        """Through functions and other objects of the database."""
        name = self.rng.choice([*NAMES, *CUSTOM])
        value = literal(self.values.of(name))
        t = literal(self.tag)
        path = literal(self.values.of("search_path"))
        do = f"PERFORM set_config('{name}', {value}, false)"
        return self.send(
            self.rng.choice(
                [
                    f"SELECT public.set_tenant({t})",
                    f"SELECT public.outer_tenant({t})",
                    f"SELECT public.atomic_tenant({t})",
                    f"SELECT public.local_tenant({t})",
                    f"SELECT public.caught({t})",
                    f"SELECT public.go_to({path})",
                    f"SELECT public.computed('{name}', {value})",
                    f"SELECT public.dynamic({literal(self.plain_text())})",
                    f"DO $do$BEGIN {do}; END$do$",
                    f"DO $do$BEGIN {self.plain_text()}; END$do$",
                    f"DO $do$BEGIN {do}; RAISE EXCEPTION '{self.tag}'; END$do$",
                    f"INSERT INTO public.audited VALUES ({t}, 'v')",
                    f"INSERT INTO public.defaulted (who) VALUES ({t})",
                    f"INSERT INTO public.ruled VALUES ({t})",
                    "SELECT v FROM public.touching",
                    f"CALL public.proceed({t})",
                    "SELECT public.scoped()",
                ]
            )
        )

    def reset_text(self) -> str:
        name = self.rng.choice([*NAMES, *CUSTOM, "app.start", "app.from_db", "app.from_role"])
        return self.rng.choice([f"RESET {name}", f"SET {name} TO DEFAULT", "RESET ALL", "RESET TIME ZONE"])

    def reset(self) -> list[Step]:
        return self.send(self.reset_text())

    def characteristics(self) -> list[Step]:
        mode = self.rng.choice(
            ["ISOLATION LEVEL REPEATABLE READ", "ISOLATION LEVEL READ COMMITTED", "DEFERRABLE"]
        )
        return self.send(f"SET SESSION CHARACTERISTICS AS TRANSACTION {mode}")

    def role_text(self) -> str:
        rng, role = self.rng, self.rng.choice(ROLES)
        plain = [
            f"SET ROLE {role}",
            f"SET ROLE {role}",
            f"SET SESSION ROLE '{role}'",
            "SET ROLE NONE",
            "RESET ROLE",
        ]
        plain += [
            f"SELECT set_config('role', '{role}', false)",
            f"SET LOCAL ROLE {role}",
            f"SET role TO {role}",
        ]
        plain += [f"DO $do$BEGIN SET ROLE {role}; END$do$", f"SELECT public.computed('role', '{role}')"]
        if self.superuser:
            plain += [f"SET SESSION AUTHORIZATION {rng.choice([APP, *ROLES])}", "RESET SESSION AUTHORIZATION"]
            plain += ["SET SESSION AUTHORIZATION DEFAULT", f"SET LOCAL SESSION AUTHORIZATION {role}"]
            plain += [f"SELECT set_config('session_authorization', '{role}', false)"]
        return rng.choice(plain)

    def role(self) -> list[Step]:
        return self.send(self.role_text())

    # --- prepared statements

    def prepared_text(self) -> str:
        rng, t = self.rng, self.tag
        new = rng.choice(["q1", "q1", "Q1", '"Q 1"', "q2", "q3"])
        name = rng.choice([new, new, *STATEMENTS])
        return rng.choice(
            [
                f"PREPARE {new} AS SELECT '{t}' || 1 AS v",
                f"PREPARE {new} AS SELECT '{t}' || 1 AS v",
                f"PREPARE {new} (int, text) AS SELECT '{t}' || $1 + 1, $2",
                f"prepare {new} as select '{t}' || set_config('app.x', $1, false)",
                f"PREPARE {new} AS SELECT label || '{t}' FROM public.things /* ; */",
                # Inside a function nobody sees whether the name is one of the protocol's.
                f"SELECT public.dynamic('PREPARE dyn AS SELECT 7, ''{t}''')",
                f"EXECUTE {name}",
                f"EXECUTE {name}",
                f"EXECUTE {name} (4, '{t}')",
                f"EXECUTE {name} ('{t}')",
                f"EXPLAIN (COSTS OFF) EXECUTE {name}",
                f"EXPLAIN (COSTS OFF, VERBOSE) EXECUTE {name} (1, 'x')",
                f"DEALLOCATE {name}",
                f"DEALLOCATE PREPARE {name}",
                rng.choice(["DEALLOCATE ALL", "EXECUTE nothing", "DEALLOCATE nothing"]),
                "SELECT name || '', statement || '', from_sql FROM pg_prepared_statements ORDER BY name",
                "SELECT name || '' AS n FROM pg_catalog.pg_prepared_statements p ORDER BY p.name",
            ]
        )

    def prepared(self) -> list[Step]:
        return self.send(self.prepared_text())

    def protocol_statement(self) -> list[Step]:
        """Statements by name in the protocol, whose names SQL may also use."""
        rng, t = self.rng, self.tag
        sql = rng.random() < 0.3  # one of PREPARE, which the protocol may use, too
        name = rng.choice(["q1", "q2", "Q 1"] if sql else STATEMENTS)
        text = rng.choice(
            ["SELECT $1::text || label FROM public.things", f"SELECT '{t}' || $1", "SELECT $1::text"]
        )
        use = wire.bind([t], name) + wire.execute()
        data = rng.choice(
            [
                use if sql else wire.parse(text, name) + use,
                use if sql else wire.close(name) + wire.parse(text, name) + wire.describe(name) + use,
                use,
                use,
                wire.bind([], name) + wire.execute(),
                wire.describe(name),
                wire.close(name),
            ]
        )
        return [Step(f"protocol {name}", data + wire.sync(), 1)]

    # --- notifications

    def channel(self) -> str:
        return self.rng.choice(
            [f'"{self.tag}"', f'"{self.tag}"', f"ch_{self.word}", f"Long_{self.word}_" + "x" * 60]
        )

    def listen(self) -> list[Step]:
        rng, t, channel = self.rng, self.tag, self.channel()
        payload = literal(rng.choice([t, t, t + "'\\ \n é", t + "z" * 3000, t + str(rng.random())]))
        roll = rng.random()
        if roll < 0.35:
            return self.send(rng.choice([f"LISTEN {channel}", f"LISTEN {channel}", f"listen {channel};"]))
        if roll < 0.5:
            return self.send(rng.choice([f"UNLISTEN {channel}", "UNLISTEN *"]))
        if roll < 0.6:
            return self.send("SELECT c FROM pg_listening_channels() c ORDER BY 1")
        self.notified = True
        if roll < 0.7:
            both = [f"LISTEN {channel}", f"NOTIFY {channel}, {payload}"]
            return (
                self.simple("; ".join(both))
                if rng.random() < 0.5
                else [x for s in both for x in self.send(s)]
            )
        name = literal(channel.strip('"') if channel[0] == '"' else channel.lower()[:63])
        way = rng.randrange(5)
        if way == 4:
            return self.send(f"NOTIFY {channel}, {payload}") + self.send(f"NOTIFY {channel}, 'after {t}'")
        ways = [
            f"NOTIFY {channel}, {payload}",
            f"NOTIFY {channel}",
            f"SELECT pg_notify({name}, {payload})",
            f"SELECT pg_notify({name}, g || {payload}) FROM generate_series(1, 3) g",
        ]
        return self.send(ways[way])

    def listen_in_function(self, channel: str) -> list[Step]:
        """Found out only after the transaction: what is sent within it may be lost."""
        listen = self.send(f"SELECT public.dynamic({literal('LISTEN ' + channel)})")
        return [*self.simple("ROLLBACK"), *listen, *self.ask()]

    def heard(self) -> list[Step]:
        self.notified = False
        return [Step(NOTES, wait=NOTES)]

    # --- what pins

    def temp_text(self) -> str:
        t = self.tag
        return self.rng.choice(
            [
                f"CREATE TEMP TABLE tmp_t AS SELECT '{t}' AS v",
                f"CREATE TEMP TABLE tmp_t AS SELECT '{t}' AS v",
                f"CREATE TEMPORARY TABLE tmp_d ON COMMIT DROP AS SELECT '{t}' AS v",
                "CREATE LOCAL TEMP TABLE tmp_e (v text) ON COMMIT DELETE ROWS",
                f"SELECT '{t}' AS v INTO TEMP tmp_t",
                f"CREATE TEMP VIEW tmp_v AS SELECT '{t}' AS v",
                f"CREATE TABLE pg_temp.tmp_t AS SELECT '{t}' AS v",
                f"CREATE TEMP TABLE things AS SELECT 'temporary {t}' AS label",
                f"SELECT public.dynamic('CREATE TEMP TABLE tmp_t AS SELECT ''{t}'' AS v')",
                f"INSERT INTO tmp_t VALUES ('{t}')",
                f"INSERT INTO tmp_e VALUES ('{t}')",
                "SELECT v || '' FROM tmp_t",
                "SELECT v || '' FROM tmp_t",
                "SELECT count(*) FROM tmp_e",
                "SELECT v || '' FROM pg_temp.tmp_v",
                "DROP TABLE tmp_t",
                "DROP TABLE tmp_t",
                "DROP TABLE IF EXISTS tmp_t, tmp_e",
                "DO $do$BEGIN IF to_regclass('pg_temp.things') IS NOT NULL THEN DROP TABLE pg_temp.things; "
                "END IF; END$do$",
                "DROP VIEW tmp_v",
                "DISCARD TEMP",
            ]
        )

    def temp(self) -> list[Step]:
        return self.send(self.temp_text())

    def lock_text(self) -> str:
        rng, key = self.rng, self.key
        return rng.choice(
            [
                f"SELECT pg_advisory_lock({key})",
                f"SELECT pg_advisory_lock_shared({key})",
                f"SELECT pg_try_advisory_lock({key})",
                f"SELECT public.locker({key})",
                f"SELECT pg_advisory_lock({key % 2**31}, 3)",
                f"SELECT pg_advisory_xact_lock({key})",
                f"SELECT pg_advisory_unlock({key})",
                f"SELECT pg_advisory_unlock({key})",
                f"SELECT pg_advisory_unlock_shared({key})",
                f"SELECT pg_advisory_unlock({key % 2**31}, 3)",
                "SELECT pg_advisory_unlock_all()",
            ]
        )

    def lock(self) -> list[Step]:
        return self.send(self.lock_text())

    def cursor_text(self) -> str:
        rng, t = self.rng, self.tag
        name = rng.choice(["h1", "h1", "h2"])
        return rng.choice(
            [
                f"DECLARE {name} CURSOR WITH HOLD FOR SELECT '{t}' || g FROM generate_series(1, 9) g",
                f"DECLARE {name} CURSOR WITH HOLD FOR SELECT '{t}' || g FROM generate_series(1, 9) g",
                f"SELECT public.dynamic('DECLARE {name} CURSOR WITH HOLD FOR SELECT 1')",
                f"FETCH 2 FROM {name}",
                f"FETCH 2 FROM {name}",
                f"MOVE 1 FROM {name}",
                f"CLOSE {name}",
                rng.choice(["CLOSE ALL", f"CLOSE {name}"]),
            ]
        )

    def cursor(self) -> list[Step]:
        return self.send(self.cursor_text())

    # --- sequences, and what never ends

    def sequence_use(self) -> list[Step]:
        start, seq = self.rng.randrange(1, 10**6), self.sequence
        steps = self.send("BEGIN") + self.send(f"SELECT setval('{seq}', {start}), '{self.tag}'")
        steps += self.send(f"SELECT nextval('{seq}')") + self.send(f"SELECT currval('{seq}'), lastval()")
        steps += self.send(self.rng.choice(["COMMIT", "ROLLBACK"]))
        if self.rng.random() < 0.4:
            steps += self.send(self.rng.choice([f"SELECT currval('{seq}')", "SELECT lastval()"]))
            steps[-1].what = LATER
        return steps

    def forever(self) -> list[Step]:
        """The state of random() can be neither asked for nor undone."""
        first = self.rng.choice(["SELECT setseed(0.25)", "SET seed = 0.25"])
        return self.send(first) + self.send("SELECT 'x'") + self.send("SELECT random()")

    # --- ends and failures

    def discard(self) -> list[Step]:
        return self.send(
            self.rng.choice(["DISCARD ALL", "DISCARD ALL", "DISCARD PLANS", "RESET ALL", "UNLISTEN *"])
        )

    def failure(self) -> list[Step]:
        bad = [
            f"SELECT 1/0, '{self.tag}'",
            f"SELEC '{self.tag}'",
            "SET nothing_here = 1",
            "SET work_mem = 'much'",
        ]
        bad += [
            f"SET search_path TO tenant_1; SELECT '{self.tag}'::int",
            "SET ROLE nobody_here",
            "RESET nothing_here",
        ]
        text = self.rng.choice(bad)
        return self.simple(text) if ";" in text else self.send(text)

    def disconnect(self) -> list[Step]:
        """Leave with state held, also in the middle of something."""
        how = self.rng.choice(["close", "reset", "X"])
        held = [
            [],
            [Step("BEGIN", wire.query("BEGIN"), 1), *self.action()],
            [Step("BEGIN", wire.query(f"BEGIN; {self.text()}"), 1)],
            [*self.action(), *self.action()],
            [Step("half a message", wire.query(self.text())[:9])],
            [Step("half a batch", self.extended(self.text()))],
        ]
        first = self.rng.choice(held)
        for step in first:
            step.wait = "none"
        return [*first, Step(f"leave ({how})", wire.terminate() if how == "X" else b"", wait="none", end=how)]


def make_programs(seed: int, clients: int, focus: Sequence[str] = KINDS, actions: int = 22) -> list[Script]:
    """The programs of one round."""
    rng = random.Random(seed)
    letters = "0123456789abcdefghijklmnopqrstuvwxyz"
    tags: dict[str, None] = {}
    while len(tags) < clients:
        tags["<" + "".join(rng.choice(letters) for _ in range(6)) + ">"] = None
    return [StateMaker(seed, slot, tag, focus, actions).program() for slot, tag in enumerate(tags)]
