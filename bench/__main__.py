"""Command line of the benchmark: compare (default), report, callgrind, perf, syscalls."""

from __future__ import annotations

import argparse
import datetime
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pgferry.client import ClientError
from pgferry.embedded import Cluster, EmbeddedError
from pgferry.embedded.account import remove_tree

from . import plots, profile, report
from .results import Results, load
from .runner import Runner
from .scenarios import FULL, QUICK, SCENARIOS, Size, select
from .server import make_server
from .system import REPOSITORY, BenchError, describe_machine, raise_descriptor_limit, repository_version
from .targets import Direct, Pooler, Target, pgbouncer, pgferry

OFFICIAL = REPOSITORY / "docs" / "benchmarks"
SCRATCH = REPOSITORY / "build" / "bench"
NAMES = ("pgbouncer", "pgferry", "direct")
SCALE = 10
SCENARIO_NAMES = ", ".join(scenario.name for scenario in SCENARIOS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 0, or 1 when all or a part of it could not be done."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
        return code
    except (BenchError, ClientError, EmbeddedError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def compare(options: argparse.Namespace) -> int:
    """Measure all targets and write the report."""
    size, scenarios, extra = _size(options), select(options.only), dict(options.pgferry_config)
    raise_descriptor_limit()
    with workplace(SCALE) as (folder, server):
        targets = [_target(name, folder, server, extra) for name in options.targets or NAMES]
        results = Results(_facts(size, server, targets))
        try:
            Runner(targets, size, results).run(scenarios)
        except KeyboardInterrupt:
            print("interrupted: the report holds what was measured so far")
            options.output = options.output or SCRATCH
    whole = size == FULL and not (options.only or options.targets or extra)
    _write(results, options.output or (OFFICIAL if whole else SCRATCH))
    return 1 if any(not item.skipped for item in results.problems()) else 0


def redraw(options: argparse.Namespace) -> int:
    """Write the report again from a results.json."""
    _write(load(options.results), options.results.parent)
    return 0


def profiled(options: argparse.Namespace) -> int:
    """Profile a pooler while it works."""
    raise_descriptor_limit()
    with workplace(scale=1) as (folder, server):
        pooler = _target(options.target, folder, server, dict(options.pgferry_config))
        assert isinstance(pooler, Pooler)
        job = profile.Job(
            options.protocol, options.clients, options.transactions, options.seconds, options.top
        )
        print(profile.MODES[options.mode](pooler, job, folder))
    return 0


@contextmanager
def workplace(scale: int) -> Iterator[tuple[Path, Cluster]]:
    """A folder of the account that everything runs as, and a running server; both gone afterwards."""
    server = make_server(scale)
    try:
        folder = server.account.make_dir("pgferry-bench-")
        try:
            yield folder, server
        finally:
            remove_tree(folder)
    finally:
        server.close()


def _target(name: str, folder: Path, server: Cluster, extra: Mapping[str, str]) -> Target:
    """Return the target `name`; raises BenchError when its program is missing."""
    if name == "direct":
        return Direct(server.port)
    if name == "pgbouncer":
        return pgbouncer(folder, server.account, server.port)
    return pgferry(folder, server.account, server.port, extra)


def _size(options: argparse.Namespace) -> Size:
    """Return the size of the run: full or quick, with what the command line changes."""
    size = QUICK if options.quick else FULL
    if options.rounds is not None:
        size = replace(size, rounds=options.rounds)
    if options.seconds is not None:
        size = replace(size, seconds=options.seconds)
    if options.clients:
        size = replace(size, clients=tuple(options.clients))
    return size


def _facts(size: Size, server: Cluster, targets: Sequence[Target]) -> dict[str, str]:
    """Return what the report says about the run."""
    facts = {
        "date": datetime.datetime.now(tz=datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": shlex.join(["python", "-m", "bench", *sys.argv[1:]]),
        **describe_machine(),
        "postgresql": f"{server.server.version}, pgbench scale {SCALE}, shared_buffers 512MB, fsync off",
        "commit": repository_version(),
        "rounds": f"{size.rounds} of {size.seconds:g} s",
        "load": f"{os.getloadavg()[0]:.2f}",
    }
    poolers = [target for target in targets if isinstance(target, Pooler)]
    for pooler in poolers:
        extra = "".join(f", {key} = {value}" for key, value in pooler.settings.items())
        facts[pooler.name] = f"{pooler.version}{extra}"
    facts["accounts"] = ", ".join(f"{pooler.name} as {pooler.account.name}" for pooler in poolers)
    return facts


def _write(results: Results, output: Path) -> None:
    """Write the report, its data and its plots."""
    output.mkdir(parents=True, exist_ok=True)
    results.save(output / "results.json")
    pictures = plots.draw(results, output)
    (output / "README.md").write_text(report.markdown(results, pictures))
    print(report.goals_text(results))
    print(f"written: {output / 'README.md'}")


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _numbers(text: str) -> list[int]:
    try:
        return [int(word) for word in _words(text)]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers") from error


def _setting(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key.strip(), value.strip()


def _targets(text: str) -> list[str]:
    names = _words(text)
    if unknown := set(names) - set(NAMES):
        raise argparse.ArgumentTypeError(f"no target is named {', '.join(sorted(unknown))}")
    return names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Compare a direct connection, PgBouncer and pgferry. "
        "The report goes to docs/benchmarks after a full run and to build/bench after any other.",
        epilog="Environment: PGBOUNCER=/path and PGFERRY=/path name the programs (the same for both shows "
        "the noise), PGBOUNCER_SUITE=NAME the Debian release whose package is fetched when there is none.",
    )
    parser.set_defaults(run=compare)
    parser.add_argument(
        "--quick", action="store_true", help="about two minutes: two short rounds, smaller results"
    )
    parser.add_argument("--only", type=_words, default=[], metavar="NAMES", help=f"some of {SCENARIO_NAMES}")
    parser.add_argument(
        "--targets", type=_targets, default=[], metavar="NAMES", help=f"some of {', '.join(NAMES)}"
    )
    parser.add_argument(
        "--clients", type=_numbers, metavar="N,N", help="numbers of clients of the query scenarios"
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds of each cell")
    parser.add_argument("--seconds", type=float, metavar="S", help="length of each load")
    parser.add_argument("--output", type=Path, metavar="DIR", help="where the report goes")
    parser.add_argument(
        "--pgferry-config",
        type=_setting,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="for pgferry only",
    )
    modes = parser.add_subparsers(title="other modes", metavar="MODE")
    drawing = modes.add_parser("report", help="write the report again from a results.json")
    drawing.add_argument("results", type=Path, nargs="?", default=OFFICIAL / "results.json")
    drawing.set_defaults(run=redraw)
    for name, work in profile.MODES.items():
        mode = modes.add_parser(name, help=(work.__doc__ or "").split(";")[0].strip())
        mode.add_argument("--target", choices=("pgferry", "pgbouncer"), default="pgferry")
        mode.add_argument("--protocol", choices=profile.PROTOCOLS, default="simple")
        mode.add_argument("--clients", type=int, default=16)
        mode.add_argument("--transactions", type=int, default=4000, help="callgrind: how many are counted")
        mode.add_argument("--seconds", type=float, default=5, help="perf and syscalls: how long")
        mode.add_argument("--top", type=int, default=40, help="lines to print")
        mode.set_defaults(run=profiled, mode=name)
    return parser


if __name__ == "__main__":
    sys.exit(main())
