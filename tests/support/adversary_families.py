"""The ways in which session state can be left behind: each makes the moves of a program that tries it."""

from support import adversary_schema as schema
from support import wire
from support.adversary_attacks import AttackMaker, Family, Move
from support.adversary_ddl import SHAPES, Shape

SET_CONFIG = 2078  # oid of set_config(text, text, bool)
# A character of each encoding whose second byte is 0x5C.
LASTING = ("seed", "load")  # payloads that nothing undoes but the end of the session

SECOND_BYTE = {
    "SJIS": b"\x83\x5c",
    "SHIFT_JIS_2004": b"\x83\x5c",
    "BIG5": b"\xa5\x5c",
    "GBK": b"\x81\x5c",
    "GB18030": b"\x81\x5c",
    "JOHAB": b"\x8d\x5c",
    "UHC": "가".encode("cp949"),
    "LATIN1": b"\xe9",
    "WIN1251": b"\xe9",
    "EUC_JP": "ソ".encode("euc_jp"),
}


def plain(m: AttackMaker) -> list[Move]:
    m.kept = True
    moves = [m.one(m.statement())]
    if m.rng.random() < 0.4:
        moves = [m.one("BEGIN"), *moves, m.one("COMMIT")]
    return moves


def bind_pieces(m: AttackMaker) -> list[Move]:
    """Names and values of settings in a Bind that comes in pieces or is long."""
    rng, p = m.rng, m.payload
    m.kept = True
    types = rng.choice([(), (25, 25), (1043, 25)])
    values: list[str | bytes | None] = [p.setting, p.value]
    text = "SELECT set_config($1, $2, false)"
    if rng.random() < 0.6:
        text = rng.choice(
            [
                "SELECT length($3::text), set_config($1, $2, false)",
                "SELECT set_config($1, $2, length($3) < 0)",
            ]
        )
        values.append(m.filler())
    name = rng.choice(["", "adv2"])
    first = wire.parse(text, name, types)
    second = wire.bind(values, name) + wire.execute() + wire.sync()
    if rng.random() < 0.5:
        return [Move(first + wire.sync()), Move(second, cut=rng.choice(["some", "bytes"]))]
    return [Move(first + second, cut=rng.choice(["some", "bytes"]))]


def blanks(m: AttackMaker) -> list[Move]:
    """A setting's name as a char(n) with trailing blanks, or through other types."""
    rng, p = m.rng, m.payload
    m.kept = True
    text, types = rng.choice(
        [
            ("SELECT set_config($1, $2, false)", (1042, 25)),
            ("SELECT set_config($1::char(80), $2, false)", ()),
            ("SELECT set_config(rtrim($1), $2, false)", ()),
            ("SELECT set_config($1::name::text, $2, false)", ()),
            ("SELECT set_config(lower($1), $2, false)", ()),
        ]
    )
    name = p.setting + " " * 5 if "rtrim" in text or "char" in text or types else p.setting
    return [Move(wire.parse(text, "", types) + wire.bind([name, p.value]) + wire.execute() + wire.sync())]


def long_text(m: AttackMaker) -> list[Move]:
    """The payload before, between or behind a lot of data."""
    rng = m.rng
    m.kept = True
    data = f"SELECT length('{m.filler()}')"
    comment = f"/* {m.filler().replace('*/', '').replace('/*', '')} */ SELECT 1"
    parts = [rng.choice([data, data, comment]) for _ in range(rng.choice([1, 1, 2]))]
    parts.insert(rng.randrange(len(parts) + 1), m.statement())
    moves = [Move(wire.query("; ".join(parts)))]
    if rng.random() < 0.3:
        moves.insert(0, m.one(f"PREPARE adv_long AS SELECT {m.payload.call or 1}"))
        moves.append(Move(wire.query(f"{data}; EXECUTE adv_long; {data}")))
    return moves


def comments(m: AttackMaker) -> list[Move]:
    """Ends of comments, blanks, nested comments."""
    rng, text = m.rng, m.statement()
    word = rng.choice(
        ["x", "update", "update x", "insert into", "with", "select", "delete", "x set", "'", "/*"]
    )
    made = rng.choice(
        [
            f"-- {word}\r{text}",
            f"-- {word}\r{text}",
            f"--{word}\r--{word}\r{text}",
            f"/* {word.replace('/*', '')} */{text}",
            f"--\r{text}",
            f"SELECT 1 -- x'\r; {text}",
            f"SELECT 1 /* /* ' */ -- */ */; {text}",
            f"SELECT 1 /* -- */ ; {text} -- */",
            f"SELECT 1 -- /* \n; {text}",
            f"SELECT 1;\f{text}",
            f"SELECT 1;\t\r{text}",
            f"SELECT '--'; {text}",
            f"SELECT 1 --\f'\r; {text} --'",
            f"SELECT '-- x\r'; {text}",
            f'SELECT 1 AS "--"; {text}',
            f'SELECT 1 AS "/*"; {text}',
            text.replace(" ", "/**/", 1) if "'" not in text.split(" ")[0] else text,
            text.replace(" ", "--\r", 1),
        ]
    )
    return [m.one(made) if made.count(";") == 0 else Move(wire.query(made))]


def quoting(m: AttackMaker) -> list[Move]:
    """All kinds of strings and identifiers around the payload, and both meanings of a backslash."""
    rng, text, p = m.rng, m.statement(), m.payload
    standard = [
        f"SELECT E'\\''; {text}; --'",
        f"SELECT E'\\\\'; {text}",
        f"SELECT '\\'; {text}; --'",
        f"SELECT 'a'\n'b\\'; {text}; --'",
        f"SELECT E'a'\n'b\\''; {text}; --'",
        f"SELECT $a$'$a$; {text}",
        f"SELECT $é$'$é$; {text}",
        f"SELECT $a$ $b$ $a$; {text}; SELECT '$b$'",
        f"SELECT 1 AS a$a$, '$a$'; {text}",
        f"SELECT U&'\\0027'; {text}",
        f"SELECT U&'!' UESCAPE '!'; {text}",
        f"SELECT B'0', X'ff', N'x'; {text}",
        f'SELECT 1 AS "a""\'"; {text}',
        f'SELECT 1::"char"; {text}',
        f"SELECT 1e5, 0x1F, 1_000; {text}",
    ]
    if p.setting:
        standard += [
            f"SELECT U&\"set\\005fconfig\"('{p.setting}', '{p.value}', false)",
            f"SELECT U&\"set!005fconfig\" UESCAPE '!' ('{p.setting}', '{p.value}', false)",
            f"SELECT pg_catalog . \"set_config\" ('{p.setting}', '{p.value}', false)",
            f"SELECT SET_CONFIG(E'\\x{ord(p.setting[0]):x}{p.setting[1:]}', '{p.value}', 'off')",
            f"SELECT set_config(U&'\\{ord(p.setting[0]):04x}{p.setting[1:]}', '{p.value}', false)",
            f"SELECT set_config($a${p.setting}$a$, $${p.value}$$, false)",
            f"SELECT set_config('{p.setting[:3]}'\n'{p.setting[3:]}', '{p.value}', false)",
        ]
    other = [
        f"SELECT '\\''; {text}; --'",
        f"SELECT '\\\\'; {text}",
        f"SELECT 'a'\n'\\''; {text}; --'",
        f"SELECT U&'a'; {text}",
    ]
    if rng.random() < 0.7:
        return [Move(wire.query(rng.choice(standard)))]
    off = "SET standard_conforming_strings = off; SET backslash_quote = on; SET escape_string_warning = off"
    back = "RESET standard_conforming_strings"
    return [Move(wire.query(off)), Move(wire.query(rng.choice(other))), *([m.one(back)] * rng.choice([0, 1]))]


def encodings(m: AttackMaker) -> list[Move]:
    """Characters whose second byte is a backslash; values and names in other encodings."""
    rng = m.rng
    encoding, letter = rng.choice([*SECOND_BYTE.items()])
    text = m.statement().encode()
    moves = [Move(wire.query(f"SET client_encoding = '{encoding}'; SET backslash_quote = on"))]
    if rng.random() < 0.3:
        moves.append(
            Move(wire.query("SET standard_conforming_strings = off; SET escape_string_warning = off"))
        )
    hidden = letter + b"'; commit; set search_path = adv_evil; --"
    moves.append(
        rng.choice(
            [
                Move(wire.query(b"SELECT E'" + letter + b"' ; " + text + b"; --'")),
                Move(wire.query(b"SELECT '" + letter + b"' ; " + text + b"; --'")),
                Move(wire.query(b'SELECT 1 AS "' + letter + b'" ; ' + text)),
                Move(m.extended(b"SELECT set_config('app.x', $1, false)", (hidden,)) + wire.sync()),
                Move(m.extended(b"SELECT set_config('app.x', $1, false)", (letter,)) + wire.sync()),
                Move(wire.query(b"SET app.x = E'" + letter + letter + b"'")),
                Move(wire.query(b"SET app.x = '" + letter + b"'")),
                Move(wire.query(b'PREPARE "' + letter + b"\" AS SELECT '" + letter + b"'")),
                Move(wire.query(b'LISTEN "' + letter + b'"')),
                Move(wire.query('SELECT adv_evil."é{p}"()'.format(p="path").encode("latin-1"))),
                Move(wire.query('SELECT adv_evil."é{p}"()'.format(p="tenant").encode())),
            ]
        )
    )
    return [*moves, *([Move(wire.query("SELECT 1"))] * rng.choice([0, 2]))]


def prepared(m: AttackMaker) -> list[Move]:
    """EXECUTE right behind its PREPARE; Bind to what SQL's PREPARE has made."""
    rng = m.rng
    m.kept = True
    call = m.payload.call
    make, use = f"PREPARE adv_p AS SELECT {call}", "EXECUTE adv_p"
    if m.payload.setting and rng.random() < 0.4:
        make = "PREPARE adv_p AS SELECT set_config($1, $2, false)"
        use = f"EXECUTE adv_p('{m.payload.setting}', '{m.payload.value}')"
    pair = [wire.query(make), wire.query(use)]
    bound = wire.bind((), "adv_p") + wire.execute() + wire.sync()
    if "$1" in make:
        bound = wire.bind((m.payload.setting, m.payload.value), "adv_p") + wire.execute() + wire.sync()
    explain = wire.query(f"EXPLAIN ANALYZE {use}")
    return rng.choice(
        [
            [Move(pair[0]), Move(pair[1])],
            [Move(b"".join(pair), 2)],
            [Move(wire.query(f"{make}; {use}"))],
            [Move(pair[0]), Move(bound)],
            [Move(pair[0] + bound, 2)],
            [Move(pair[0]), Move(explain)],
            [Move(pair[0] + pair[1] + wire.query("DEALLOCATE adv_p"), 3)],
            [Move(wire.query("BEGIN") + b"".join(pair) + wire.query("COMMIT"), 4)],
        ]
    )


# Setting, two values of it, and what tells them apart: the expression and its value under each.
MEANINGS = (
    ("DateStyle", ("ISO, MDY", "German, DMY"), "extract(month FROM '01/02/2003'::date)::text", "1 2"),
    (
        "TimeZone",
        ("UTC", "Asia/Tokyo"),
        "(extract(epoch FROM '2024-02-29 12:00:00'::timestamptz)::bigint / 3600)::text",
        "474780 474771",
    ),
    (
        "IntervalStyle",
        ("postgres", "sql_standard"),
        "extract(hour FROM '-1 2:00:00'::interval)::text",
        "2 -2",
    ),
    ("standard_conforming_strings", ("on", "off"), "length('a\\\\b')::text", "4 3"),
    ("transform_null_equals", ("off", "on"), "coalesce((1 = NULL)::text, 'unknown')", "unknown false"),
)


def meanings(m: AttackMaker) -> list[Move]:
    """One text prepared by two clients under different settings: to each it means what it meant at its Parse."""
    rng = m.rng
    setting, values, expression, meant = rng.choice(MEANINGS)
    text = f"SELECT {expression}, '{m.tag}'"
    right = meant.encode().split()
    first = rng.choice([0, 1])
    moves = [m.one(f"SET {setting} = '{values[who]}'", who=who) for who in (0, 1)]
    for who in (first, 1 - first):
        start = wire.parse(text, "adv_m") if rng.random() < 0.8 else wire.parse(text, "adv_m") + wire.sync()
        data = start + wire.bind((), "adv_m") + wire.execute() + wire.sync()
        moves.append(Move(data, data.count(wire.sync()), who=who, expect=right[who]))
    again = wire.bind((), "adv_m") + wire.execute() + wire.sync()
    moves += [Move(again, who=who, expect=right[who]) for who in rng.choices([0, 1], k=rng.randint(0, 3))]
    return moves


def shape_of(m: AttackMaker) -> Shape:
    return m.rng.choice([s for s in SHAPES if m.payload.name not in LASTING or not s.nameless])


def ddl(m: AttackMaker) -> list[Move]:
    """Objects that are made and used in one text, one pipeline or one transaction, by one client or two."""
    rng = m.rng
    shape = shape_of(m)
    m.kept = shape.keeps
    names = {"t": m.tag, "call": m.payload.call}
    make, use = shape.make.format(**names), shape.use.format(**names)
    ways = [
        [Move(wire.query(f"{make}; {use}"))],
        [Move(wire.query(make) + wire.query(use), 2)],
        [Move(wire.query(make)), Move(wire.query(use))],
        [
            Move(wire.query("BEGIN")),
            Move(wire.query(make)),
            Move(wire.query(use)),
            Move(wire.query("COMMIT")),
        ],
        [Move(wire.query("BEGIN") + wire.query(make) + wire.query(use) + wire.query("COMMIT"), 4)],
        [Move(wire.query("SELECT 1"), who=1), Move(wire.query(make), who=1), Move(wire.query(use))],
        [
            Move(wire.query("BEGIN; SELECT 1")),
            Move(wire.query(make), who=1),
            Move(wire.query(use)),
            Move(wire.query("COMMIT")),
        ],
    ]
    if shape.single:
        ways += [
            [Move(m.extended(make) + m.extended(use) + wire.sync())],
            [Move(m.extended(make) + wire.sync() + m.extended(use) + wire.sync(), 2)],
            [Move(m.extended(make) + wire.sync()), Move(m.extended(use) + wire.sync())],
        ]
    return rng.choice(ways)


def outside(m: AttackMaker) -> list[Move]:
    """Objects that are made by a connection to PostgreSQL itself, and used at once by another one."""
    rng = m.rng
    shape = shape_of(m)
    names = {"t": m.tag, "call": m.payload.call}
    make, use = shape.make.format(**names), shape.use.format(**names)
    moves = [Move(wire.query(make), who=1), m.one(use) if shape.single else Move(wire.query(use))]
    if rng.random() < 0.5:
        moves.insert(0, m.one("SELECT 1"))
    if rng.random() < 0.3:
        moves = [m.one("BEGIN"), *moves, m.one(rng.choice(["COMMIT", "ROLLBACK"]))]
    return moves


def indirect(m: AttackMaker) -> list[Move]:
    """Everything permanent that runs the payload without its words in the text."""
    rng, p = m.rng, m.payload.name
    m.kept = True
    odd = rng.choice([f"!{p}", f"9$9{p}", f"1$abc{p}", f"é{p}"])
    ways = {
        "function": [
            f"SELECT adv_evil.do_{p}()",
            f"SELECT adv_evil.check_{p}('x')",
            f"CALL adv_evil.proc_{p}()",
        ],
        "odd": [f'SELECT adv_evil."{odd}"()'] * 2,
        "view": [f"SELECT * FROM adv_evil.view_{p}", f"TABLE adv_evil.view_{p}"],
        "default": [f"INSERT INTO adv_evil.defaulted_{p} VALUES (1)"],
        "trigger": [f"INSERT INTO adv_evil.triggered_{p} VALUES (1)"],
        "rule": [f"INSERT INTO adv_evil.ruled_{p} VALUES (1)"],
        "type": [
            f"SELECT ROW('x')::adv_evil.type_{p}::int",
            f"SELECT ROW('x')::adv_evil.type_{p} OPERATOR(adv_evil.+) 1",
        ],
        "policy": [f"SELECT * FROM adv_evil.secured_{p}"],
    }
    return [m.one(rng.choice([text for kind, texts in ways.items() if kind in m.kinds for text in texts]))]


def domains(m: AttackMaker) -> list[Move]:
    """A domain's CHECK through everything that makes a value of it."""
    rng, p = m.rng, m.payload.name
    if p not in m.oids:
        return indirect(m)
    m.kept = True
    oid, array = m.oids[p], m.oids["_" + p]
    if rng.random() < 0.35:
        text, kind = rng.choice([("SELECT $1", oid), ("SELECT $1", array), ("SELECT length($1)", oid)])
        value = "{x}" if kind == array else "x"
        return [Move(wire.parse(text, "", [kind]) + wire.bind([value]) + wire.execute() + wire.sync())]
    ways = [
        f"SELECT 'x'::adv_evil.dom_{p}",
        f"SELECT domain_in('x', {oid}, -1) IS NULL",
        f"SELECT array_in('{{x}}', {oid}, -1)",
        f"SELECT '{{x}}'::adv_evil._dom_{p}",
        f"SELECT CAST(ARRAY['x'] AS adv_evil.dom_{p}[])",
        f'SELECT * FROM jsonb_to_record(\'{{"a": "x"}}\') AS r(a adv_evil.dom_{p})',
        f"SELECT 'x' IS NULL OR 'x'::adv_evil.dom_{p} = 'x'",
        f"SELECT 'x'::text::adv_evil.dom_{p}",
    ]
    return [m.one(rng.choice(ways))]


def back(m: AttackMaker) -> list[Move]:
    """An understood statement beside a procedure or block that undoes it."""
    rng, p = m.rng, m.payload
    undo = rng.choice(
        [
            "CALL adv_evil.back()",
            "CALL adv_evil.back()",
            "DO $$BEGIN ROLLBACK; END$$",
            "CALL adv_evil.keep()",
            "DO $$BEGIN ROLLBACK; COMMIT; END$$",
        ]
    )
    name = "SESSION AUTHORIZATION" if p.name == "authorization" else p.setting
    set_it = Move(wire.query(p.statement))
    alone = rng.choice([f"RESET {name}", f"RESET {name}", p.statement])
    pair = [m.extended(alone), m.extended(undo)]
    if rng.random() < 0.3:
        pair.reverse()
    end = rng.choice([b"".join(pair) + wire.sync(), pair[0] + pair[1] + wire.flush() + wire.sync()])
    return [set_it, Move(end)]


def computed(m: AttackMaker) -> list[Move]:
    """Names of settings that are computed, in a text or in a function."""
    rng, p = m.rng, m.payload
    m.kept = True
    half, value = len(p.setting) // 2, p.value
    pieces = f"'{p.setting[:half]}' || '{p.setting[half:]}'"
    codes = "||".join(f"chr({ord(c)})" for c in p.setting[:30]) + f"||'{p.setting[30:]}'"
    text = rng.choice(
        [
            f"SELECT set_config({pieces}, '{value}', false)",
            f"SELECT set_config({codes}, '{value}', false)",
            f"SELECT set_config(n, '{value}', false) FROM (VALUES ({pieces})) AS v(n)",
            f"SELECT adv_evil.named('{p.setting}', '{value}')",
            f"SELECT adv_evil.run($$SELECT set_config('{p.setting}', '{value}', false)$$)",
            f"DO $$BEGIN PERFORM set_config({pieces}, '{value}', false); END$$",
            f"DO $$BEGIN EXECUTE 'SELECT set_con' || 'fig(''{p.setting}'', ''{value}'', false)'; END$$",
            f"SELECT query_to_xml('SELECT set_config(''{p.setting}'', ''{value}'', false)', true, true, '')",
        ]
    )
    return [m.one(text)]


def long_names(m: AttackMaker) -> list[Move]:
    """Custom settings with names above 63 and 1,024 bytes, in pieces of several parts."""
    rng = m.rng
    name = rng.choice([schema.LONG, schema.LONG, schema.LONG[:64], schema.LONGER])
    form = rng.choice(
        [f"SET {name} = 'evil'", f"SELECT set_config('{name}', 'evil', false)", f"SET {name.upper()} TO evil"]
    )
    if rng.random() < 0.4:
        data = m.extended("SELECT set_config($1, 'evil', false)", (name,)) + wire.sync()
        return [Move(data)]
    return [m.one(form)]


def timeouts(m: AttackMaker) -> list[Move]:
    """Limits of 1 to 20 ms that are in force when the server is wanted for others."""
    rng = m.rng
    names = [
        "statement_timeout",
        "lock_timeout",
        "idle_in_transaction_session_timeout",
        "idle_session_timeout",
    ]
    moves = [m.one(f"SET {rng.choice([*names, names[0], names[3]])} = {rng.randint(1, 20)}")]
    more = [
        "SELECT 1",
        "SELECT pg_sleep(0.03)",
        "DO $$BEGIN END$$",
        "SET app.x = 'slow'",
        "BEGIN",
        "SELECT 1/0",
    ]
    more += [f"CREATE TABLE adv_play.quick_{m.tag} ()", "SELECT set_config('app.x', 'y', false)"]
    for _ in range(rng.randint(0, 4)):
        moves.append(m.one(rng.choice(more), pause=rng.choice([0, 0, 0.01, 0.03])))
    return moves


def idle(m: AttackMaker) -> list[Move]:
    """A limit on idle sessions that is over about when the server is wanted for the next client."""
    rng = m.rng
    moves = [m.one(f"SET idle_session_timeout = {rng.randint(1, 5)}")]
    moves += [m.one("SELECT 1", pause=rng.choice([0, 0.002, 0.005, 0.01])) for _ in range(rng.randint(2, 8))]
    return moves


def startup(m: AttackMaker) -> list[Move]:
    """State in the startup packet, and what RESET, DISCARD and errors make of it."""
    some = ["SELECT 1", "RESET ALL", "DISCARD ALL", "RESET search_path", "SELECT 1/0", "SET app.start = 'x'"]
    some += ["RESET ALL; RESET work_mem", "RESET app.start", "SET SESSION AUTHORIZATION DEFAULT"]
    return [m.one(m.rng.choice(some)) for _ in range(m.rng.randint(1, 4))]


def functions(m: AttackMaker) -> list[Move]:
    """FunctionCall messages."""
    p = m.payload
    data = wire.function_call(SET_CONFIG, p.setting.encode(), p.value.encode(), b"\0")
    moves = [Move(data, cut=m.rng.choice(["", "some", "bytes"]))]
    if m.rng.random() < 0.4:
        moves = [m.one("BEGIN"), *moves, m.one("COMMIT")]
    return moves


def copies(m: AttackMaker) -> list[Move]:
    """COPY out of a query and into a table with a trigger or default."""
    rng, p = m.rng, m.payload
    if rng.random() < 0.4:
        return [m.one(f"COPY (SELECT {p.call}) TO STDOUT")]
    table = rng.choice([f"adv_evil.triggered_{p.name} (id)", f"adv_evil.defaulted_{p.name} (id)"])
    head = wire.query(f"COPY {table} FROM STDIN")
    rows = b"".join(wire.copy_data(f"{n}\n") for n in range(3))
    end = rng.choice([wire.copy_done(), wire.copy_done(), wire.copy_fail()])
    if rng.random() < 0.3:
        return [Move(head + rows, 0, wait=False, end=rng.choice(["close", "reset"]))]
    return [Move(head + rows + end)]


def transactions(m: AttackMaker) -> list[Move]:
    """Blocks that end in every way, savepoints, local settings, two-phase commit."""
    rng, text = m.rng, m.statement()
    p = m.payload
    inner = rng.choice(
        [
            [text],
            ["SAVEPOINT a", text, "ROLLBACK TO a"],
            [text, "SAVEPOINT a", "SELECT 1/0", "ROLLBACK TO a"],
            ["SAVEPOINT a", text, "RELEASE a"],
            [f"SET LOCAL {p.setting} = '{p.value}'" if p.setting else text, text],
            [text, "SELECT 1/0"],
            ["SELECT 1/0", text],
        ]
    )
    end = rng.choice(["COMMIT", "COMMIT", "ROLLBACK", "COMMIT AND CHAIN", "ROLLBACK AND CHAIN", ""])
    texts = ["BEGIN", *inner, *([end] if end else [])]
    how = rng.randrange(3)
    if how == 0:
        return [m.one(t) for t in texts]
    if how == 1:
        return [Move(wire.query("; ".join(texts)))]
    return [Move(b"".join(m.extended(t) for t in texts) + wire.sync())]


def errors(m: AttackMaker) -> list[Move]:
    """A batch with an error in it, before and behind what PostgreSQL does not take back."""
    rng, text = m.rng, m.statement()
    first = rng.choice(["DISCARD ALL", "RESET ALL", text, "SELECT 1"])
    batch = [first, text, "SELECT 1/0"]
    rng.shuffle(batch)
    if rng.random() < 0.5:
        return [Move(b"".join(m.extended(t) for t in batch) + wire.sync()), m.one("SELECT 1")]
    return [Move(b"".join(wire.query(t) for t in batch), len(batch))]


def gone(m: AttackMaker) -> list[Move]:
    """A setting whose value PostgreSQL does not take any more, beside one that it does, when both are set elsewhere."""
    name = f"adv_play.c_{m.tag}"
    return [
        m.one(f"CREATE TEXT SEARCH CONFIGURATION {name} (COPY = pg_catalog.simple)"),
        m.one("SET app.tenant = 'mine'"),
        m.one(f"SET default_text_search_config = '{name}'"),
        Move(wire.query(f"DROP TEXT SEARCH CONFIGURATION {name}"), who=1),
        Move(wire.query("SHOW app.tenant"), pause=m.rng.choice([0, 0.01, 0.1]), expect=b"mine"),
    ]


def vanish(m: AttackMaker) -> list[Move]:
    """Leave at any byte."""
    rng = m.rng
    data = rng.choice(
        [
            wire.query("BEGIN") + wire.query(m.statement()),
            m.extended(m.statement()) + wire.sync(),
            wire.query(f"{m.statement()}; SELECT pg_sleep(0.02)"),
            wire.query(f"BEGIN; {m.statement()}"),
            m.extended(m.statement()) + wire.flush(),
        ]
    )
    cut = rng.choice([len(data), len(data), rng.randrange(1, len(data))])
    end = rng.choice(["close", "reset"])
    return [
        Move(data[:cut], 0, wait=False, cut=rng.choice(["", "bytes"])),
        Move(b"", 0, wait=False, end=end, pause=rng.choice([0, 0.002, 0.02])),
    ]


def cancels(m: AttackMaker) -> list[Move]:
    """Cancel requests around the payload and the questions asked behind it."""
    rng = m.rng
    moves: list[Move] = []
    for _ in range(rng.randint(1, 6)):
        moves.append(m.one(m.statement(), wait=rng.random() < 0.5))
        for _ in range(rng.randint(1, 3)):
            moves.append(Move(b"", 0, cancel=True, pause=rng.choice([0, 0, 0.001, rng.uniform(0, 0.002)])))
    return [*moves, m.one("SELECT pg_sleep(0.005)"), Move(b"", 0, cancel=True)]


def unsynced(m: AttackMaker) -> list[Move]:
    """Messages that no Sync ends, or a late one."""
    rng = m.rng
    data = m.extended("SELECT 1") + m.extended(m.statement())
    late = rng.choice([wire.sync(), wire.query("SELECT 1"), m.extended("SELECT 1/0") + wire.sync()])
    moves = [Move(data + wire.flush(), 0, wait=False), Move(late, pause=rng.choice([0, 0.01]))]
    return moves if rng.random() < 0.6 else [moves[0], Move(b"", 0, end="reset", pause=0.01)]


def several(m: AttackMaker) -> list[Move]:
    """The payload among others in one text or pipeline."""
    rng = m.rng
    m.kept = False
    texts = [m.statement()]
    for _ in range(rng.randint(1, 3)):
        m2 = rng.choice([p for p in m.payloads if p.name not in ("lock", *LASTING)])
        texts.append(m2.statement if rng.random() < 0.6 or not m2.call else f"SELECT {m2.call}")
    texts += rng.choice([[], ["RESET ALL"], ["RESET app.tenant"], ["DISCARD ALL"], ["RESET ROLE"]])
    rng.shuffle(texts)
    if rng.random() < 0.5:
        return [Move(wire.query("; ".join(texts)))]
    return [Move(b"".join(wire.query(t) for t in texts), len(texts))]


FAMILIES: dict[str, Family] = {
    "plain": Family(plain),
    "bind_pieces": Family(bind_pieces, "setting"),
    "blanks": Family(blanks, "setting"),
    "long_text": Family(long_text),
    "comments": Family(comments),
    "quoting": Family(quoting),
    "encodings": Family(encodings),
    "prepared": Family(prepared, "call"),
    "meanings": Family(meanings),
    "ddl": Family(ddl, "call"),
    "outside": Family(outside, "call", direct=True),
    "indirect": Family(indirect, "fixed"),
    "domains": Family(domains, "fixed"),
    "back": Family(back, "setting"),
    "computed": Family(computed, "setting"),
    "long_names": Family(long_names, "setting"),
    "timeouts": Family(timeouts),
    "idle": Family(idle),
    "startup": Family(startup, "setting"),
    "functions": Family(functions, "setting"),
    "copies": Family(copies, "fixed"),
    "transactions": Family(transactions),
    "errors": Family(errors),
    "gone": Family(gone),
    "vanish": Family(vanish),
    "cancels": Family(cancels),
    "unsynced": Family(unsynced),
    "several": Family(several),
}
