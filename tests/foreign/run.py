"""`make foreign`: runs foreign suites directly and through pgferry in transaction mode, and compares them."""

import argparse
import json
import sys
import time
from pathlib import Path

from pgferry.client import ClientError
from pgferry.embedded import EmbeddedError

from . import regress, suites
from .errors import ForeignError
from .known import reason
from .results import MISSING, Outcome, Run, differences
from .stage import DIRECT, POOLED, staged

SUITES: dict[str, type[suites.Suite]] = {
    s.name: s
    for s in (
        regress.Regress,
        suites.Psycopg,
        suites.Psycopg2,
        suites.Asyncpg,
        suites.SQLAlchemy,
        suites.SQLAlchemyAsyncpg,
        suites.Django,
    )
}
RESULTS = Path(__file__).resolve().parents[2] / "build" / "foreign"


def main() -> int:
    """Exit status 1 when a test passes directly and not through pgferry, and known.py does not say why."""
    options = _options()
    chosen = options.suites or [n for n in SUITES if n != "psycopg"]
    RESULTS.mkdir(parents=True, exist_ok=True)
    table, status = [], 0
    for name in chosen:
        try:
            row, new = _compare(SUITES[name](select=options.select), options)
        except (ForeignError, ClientError, EmbeddedError) as e:
            row, new = f"{name:20} could not run: {e}", 1
        table.append(row)
        status = status or int(new > 0)
        print(row, flush=True)
    print(f"\n{HEAD}\n" + "\n".join(table))
    return status


HEAD = f"{'suite':20}{'pass directly':>14}{'through':>9}{'differ':>8}{'known':>7}  bystanders' wrong answers"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make foreign ARGS=", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=", ".join(SUITES), default=[])
    parser.add_argument("--select", nargs="+", default=[], help="only these tests or files of the suite")
    parser.add_argument("--mode", default="transaction", help="pool_mode of pgferry")
    parser.add_argument("--reuse", action="store_true", help="take the direct result of the last run")
    options = parser.parse_args()
    if wrong := [n for n in options.suites if n not in SUITES]:
        parser.error(f"no such suite: {', '.join(wrong)}")
    return options


def _compare(suite: suites.Suite, options: argparse.Namespace) -> tuple[str, int]:
    """One suite both ways: the line of the table and the number of differences that nobody knows."""
    suite.fetch()
    twice = suite.name == "regress"
    direct = [_direct(suite, options, part) for part in ("direct", "again")[: 1 + twice]]
    pooled = _run(suite, POOLED, options.mode)
    if isinstance(suite, regress.Regress):
        pooled.outcomes = regress.compare([d.outcomes for d in direct], pooled.outcomes)
    differ = differences(direct[0], pooled)
    known = {t: why for t, o in differ.items() if (why := reason(suite.name, t, o.why))}
    _write(suite, options.mode, direct[0], pooled, differ, known)
    for test, outcome in differ.items():
        print(f"  {outcome.how:8} {test}" + (f" (known: {known[test]})" if test in known else ""))
    passed, through = direct[0].counts()["passed"], pooled.counts()["passed"]
    wrong, asked, errors = _wrong(pooled)
    row = f"{suite.name:20}{passed:14}{through:9}{len(differ):8}{len(known):7}  {wrong} of {asked}"
    return row + (f", {errors} errors" if errors else ""), len(differ) - len(known) + wrong


def _direct(suite: suites.Suite, options: argparse.Namespace, part: str) -> Run:
    """The direct run, or the one of last time."""
    path = RESULTS / f"{suite.name}-{part}.json"
    if options.reuse and path.exists():
        data = json.loads(path.read_text())
        return Run({t: Outcome(*o) for t, o in data["outcomes"].items()}, data["seconds"])
    run = _run(suite, DIRECT, "", part)
    if not options.select:
        text = {t: [o.how, o.why] for t, o in run.outcomes.items()}
        path.write_text(json.dumps({"seconds": run.seconds, "outcomes": text}))
    return run


def _run(suite: suites.Suite, way: str, mode: str, part: str = "") -> Run:
    label = part or mode
    print(f"{suite.name}: {way} {mode}".rstrip(), flush=True)
    run, began = Run(), time.monotonic()
    with staged(
        way,
        databases=suite.databases,
        prepare=suite.prepare,
        settings=suite.settings,
        mode=mode or "transaction",
    ) as stage:
        run.outcomes = suite.run(stage, RESULTS / f"{suite.name}-{label}.log")
    (RESULTS / f"{suite.name}-{label}-server.log").write_text(stage.log)
    run.bystanders, run.seconds = stage.bystanders, round(time.monotonic() - began, 1)
    print(f"  {dict(run.counts())} in {run.seconds} s", flush=True)
    return run


def _wrong(run: Run) -> tuple[int, int, int]:
    """Wrong answers, questions and errors of the bystanders of all databases."""
    reports = [r for r in run.bystanders.values() if isinstance(r, dict)]
    return (
        sum(r["wrong"] for r in reports),
        sum(r["asked"] for r in reports),
        sum(sum(r["errors"].values()) for r in reports),
    )


def _write(
    suite: suites.Suite,
    mode: str,
    direct: Run,
    pooled: Run,
    differ: dict[str, Outcome],
    known: dict[str, str],
) -> None:
    """The whole result, for whoever wants to know more than the table says."""
    tests = {
        t: {"direct": o.how, "pgferry": pooled.outcomes[t].how if t in pooled.outcomes else MISSING}
        for t, o in direct.outcomes.items()
    }
    data = {
        "suite": suite.name,
        "origin": suite.origin,
        "mode": mode,
        "seconds": {"direct": direct.seconds, "pgferry": pooled.seconds},
        "differences": {t: {"how": o.how, "why": o.why, "known": known.get(t)} for t, o in differ.items()},
        "bystanders": pooled.bystanders,
        "tests": tests,
    }
    (RESULTS / f"{suite.name}-{mode}.json").write_text(json.dumps(data, indent=1, default=str))


if __name__ == "__main__":
    sys.exit(main())
