"""Recorded client streams, with what makes each of them hard for a relay."""

from support.wire import (
    bind,
    close,
    copy_data,
    copy_done,
    copy_fail,
    describe,
    execute,
    flush,
    function_call,
    parse,
    query,
    sync,
)


def run(sql: str, name: str = "", value: str = "v", dname: bool = True) -> bytes:
    """Parse, Describe, Bind and Execute of one statement, without Sync."""
    return parse(sql, name) + (describe(name) if dname else b"") + bind([value], name) + execute()


SCRIPTS: dict[str, bytes] = {
    "simple": query("SELECT one") + query("ROWS 3 10") + query("SELECT two"),
    "several statements in one text": query("SELECT a; ROWS 2 3; SELECT b")
    + query("SELECT a; FAIL; SELECT b"),
    "empty": query("") + query(" ;") + query("SELECT x"),
    "transaction": query("BEGIN") + query("SELECT in") + query("COMMIT") + query("SELECT out"),
    "failed transaction": query("BEGIN")
    + query("FAIL")
    + query("SELECT no")
    + query("ROLLBACK")
    + query("SELECT x"),
    "extended": run("SELECT $1") + sync() + run("SELECT $1", value="w") + sync(),
    "named": run("SELECT $1", "s1") + sync() + bind(["2"], "s1") + execute() + sync() + close("s1") + sync(),
    "named in many batches at once": b"".join(
        [
            parse("SELECT $1", "a"),
            sync(),
            bind(["1"], "a"),
            execute(),
            sync(),
            bind(["2"], "a"),
            execute(),
            sync(),
        ]
    ),
    "pipeline": b"".join(run(f"SELECT {i}") + sync() for i in range(6)),
    "pipeline in one batch": b"".join(run(f"SELECT {i}", f"n{i}") for i in range(6)) + sync(),
    "error in the middle": run("SELECT a")
    + run("FAIL")
    + run("SELECT c", "lost")
    + sync()
    + run("SELECT d", "lost")
    + sync(),
    "Parse fails": run("SYNTAX", "s")
    + sync()
    + bind((), "s")
    + execute()
    + sync()
    + run("SELECT ok", "s")
    + sync(),
    "unnamed Parse fails": run("SELECT old")
    + sync()
    + parse("SYNTAX")
    + sync()
    + bind()
    + execute()
    + sync(),
    "unnamed Parse skipped": b"".join(
        [run("SELECT old"), sync(), run("FAIL", "f"), parse("SELECT new"), sync(), bind(), execute(), sync()]
    ),
    "error without Sync": run("FAIL")
    + flush()
    + run("SELECT skipped")
    + query("SELECT skipped")
    + sync()
    + query("SELECT x"),
    "unknown names": bind((), "nope")
    + sync()
    + describe("nope")
    + sync()
    + close("nope")
    + sync()
    + execute("nope")
    + sync(),
    "name used twice": run("SELECT $1", "d")
    + sync()
    + parse("SELECT $1", "d")
    + sync()
    + bind(["x"], "d")
    + execute()
    + sync(),
    "close and define again": b"".join(
        [
            run("SELECT a", "s"),
            sync(),
            close("s"),
            parse("SELECT b", "s"),
            bind((), "s"),
            execute(),
            sync(),
            bind((), "s"),
            execute(),
            sync(),
        ]
    ),
    "close is undone by an error": b"".join(
        [run("SELECT a", "s"), sync(), run("FAIL"), close("s"), sync(), bind((), "s"), execute(), sync()]
    ),
    "two names of one text": parse("SELECT $1", "a")
    + parse("SELECT $1", "b")
    + bind(["1"], "b")
    + execute()
    + sync(),
    "unnamed used later": parse("SELECT $1")
    + sync()
    + bind(["1"])
    + execute()
    + sync()
    + bind(["2"])
    + execute()
    + sync(),
    "unnamed dropped by a query": parse("SELECT $1")
    + sync()
    + query("SELECT q")
    + bind(["1"])
    + execute()
    + sync(),
    "unnamed closed": parse("SELECT $1") + sync() + close() + sync() + bind(["1"]) + execute() + sync(),
    "evicting": b"".join(run(f"SELECT {i % 5}", f"e{i}") + sync() for i in range(9))
    + b"".join(bind((), f"e{i}") + execute() + sync() for i in range(9)),
    "evicting in a failed batch": b"".join(run(f"SELECT {i}", f"e{i}") + sync() for i in range(3))
    + run("FAIL")
    + run("SELECT 7", "e7")
    + sync()
    + b"".join(bind((), f"e{i}") + execute() + sync() for i in range(3)),
    "portals": parse("ROWS 5 4", "r")
    + bind((), "r", "p")
    + execute("p", 2)
    + execute("p", 2)
    + execute("p", 2)
    + sync(),
    "portal closed": b"".join(
        [
            query("BEGIN"),
            parse("ROWS 5 4"),
            bind((), "", "p"),
            execute("p", 2),
            sync(),
            describe("p", "P"),
            execute("p", 1),
            close("p", "P"),
            execute("p"),
            sync(),
            query("ROLLBACK"),
        ]
    ),
    "Flush": parse("SELECT $1", "f") + flush() + bind(["1"], "f") + execute() + flush() + sync(),
    "only Sync": sync() + sync() + sync(),
    "COPY in": query("COPY IN") + copy_data("a\n") + copy_data("b\n") + copy_done() + query("SELECT after"),
    "COPY in fails": query("COPY IN")
    + copy_data("a\n")
    + copy_data("x\n")
    + copy_data("c\n")
    + copy_done()
    + query("SELECT x"),
    "COPY in given up": query("COPY IN") + copy_data("a\n") + copy_fail("enough") + query("SELECT after"),
    "COPY in between statements": query("SELECT a; COPY IN; SELECT b")
    + copy_data("1")
    + copy_done()
    + query("SELECT c"),
    "COPY in extended": run("COPY IN", dname=False)
    + copy_data("a")
    + copy_done()
    + sync()
    + query("SELECT after"),
    "COPY in extended, Sync in copy mode": run("COPY IN")
    + sync()
    + copy_data("a")
    + copy_done()
    + sync()
    + query("SELECT x"),
    "COPY in extended fails": run("COPY IN")
    + copy_data("x")
    + copy_data("a")
    + copy_done()
    + sync()
    + query("SELECT after"),
    "COPY in extended fails, Sync in copy mode": b"".join(
        [
            run("COPY IN"),
            sync(),
            copy_data("x"),
            copy_done(),
            sync(),
            query("SELECT after"),
            run("SELECT y"),
            sync(),
        ]
    ),
    "two COPYs at once": (run("COPY IN", dname=False) + copy_data("a") + copy_done() + sync()) * 2
    + query("SELECT x"),
    "COPY that cannot begin": query("BEGIN")
    + query("FAIL")
    + query("COPY IN")
    + copy_data("a")
    + copy_done()
    + query("ROLLBACK"),
    "COPY data without COPY": copy_data("a")
    + copy_done()
    + query("SELECT x")
    + copy_done()
    + query("SELECT y")
    + copy_fail(),
    "COPY out": query("COPY OUT 4") + run("COPY OUT 2") + sync() + query("SELECT after"),
    "function call": function_call(1, b"x")
    + query("SELECT x")
    + query("BEGIN")
    + query("FAIL")
    + function_call(1)
    + query("ROLLBACK"),
    "parameters": query("SET \"application_name\"='mine'")
    + query("SELECT x")
    + query("SET \"application_name\"='bad'"),
    "notices": query("NOTICE hello") + run("NOTICE there") + sync() + query("SELECT x; NOTICE a; SELECT y"),
    "DISCARD ALL": run("SELECT $1", "s")
    + sync()
    + query("DISCARD ALL")
    + bind(["1"], "s")
    + sync()
    + run("SELECT $1", "s")
    + sync(),
    "DEALLOCATE ALL, extended": b"".join(
        [run("SELECT $1", "s"), sync(), run("DEALLOCATE ALL"), sync(), flush(), run("SELECT $1", "s"), sync()]
    ),
    "DEALLOCATE ALL, then Parse in one batch": b"".join(
        [
            run("SELECT $1", "s"),
            sync(),
            run("DEALLOCATE ALL"),
            parse("SELECT new", "t"),
            sync(),
            bind((), "t"),
            execute(),
            sync(),
            query("SELECT x"),
            bind((), "t"),
            execute(),
            sync(),
        ]
    ),
    "DEALLOCATE ALL and a new name in one batch": b"".join(
        [
            run("DEALLOCATE ALL"),
            parse("SELECT new", "t"),
            sync(),
            query("SELECT x"),
            bind((), "t"),
            execute(),
            sync(),
        ]
    ),
    "new epoch": run("SELECT $1", "s")
    + sync()
    + query("ALTER TABLE")
    + run("SELECT $1", "t")
    + sync()
    + bind((), "s")
    + execute()
    + sync(),
}
LARGE: dict[str, bytes] = {
    "large result": query("ROWS 40 9000") + query("SELECT after"),
    "large row": query("ROWS 2 300000") + query("SELECT after"),
    "large query": query("SELECT " + "x" * 300_000) + query("SELECT after"),
    "large parameter": run("SELECT $1", "big", "y" * 400_000)
    + sync()
    + run("SELECT $1", "big2", "z")
    + sync(),
    "large Parse": run("SELECT " + "p" * 300_000, "big") + sync() + bind((), "big") + execute() + sync(),
    "large unnamed Parse": run("SELECT " + "u" * 300_000) + sync() + bind() + execute() + sync(),
    "large COPY": query("COPY IN")
    + b"".join(copy_data("c" * 70_000) for _ in range(5))
    + copy_done()
    + query("SELECT after"),
}
