"""PostgreSQL's own regression SQL: each file by psql, its output compared with a direct connection's."""

import difflib
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from support.programs import program

from . import fetch
from .results import PASSED, Outcome
from .stage import VERSION, Stage
from .suites import Suite, run_to_end

DEBIAN_SUITE = "bookworm"  # the Debian release whose PostgreSQL is stage.VERSION
FILE_SECONDS = 120.0
# What differs from run to run on the same server: process ids, times, and in which line psql read a notice.
UNSTABLE = re.compile(
    r"(?m)^psql:\S+:\d+: |\b(PID|pid|process) \d+|\d+\.\d+ ms|pg_temp_\d+|pg_toast_\d+|\bOID \d+|port \d+"
)


@dataclass(slots=True)
class Regress(Suite):
    """The files of parallel_schedule, one at a time, as pg_regress would run them."""

    name: ClassVar[str] = "regress"
    seconds: ClassVar[float] = 1800.0
    databases: ClassVar[Sequence[str]] = ("regression",)
    prepare: ClassVar[Mapping[str, str]] = {
        "postgres": "; ".join(
            f"ALTER DATABASE regression SET {name} TO 'C'"
            for name in ("lc_messages", "lc_monetary", "lc_numeric", "lc_time")
        )
        + "; ALTER DATABASE regression SET bytea_output TO 'hex'"
        + "; ALTER DATABASE regression SET timezone_abbreviations TO 'Default'"
    }
    settings: ClassVar[Mapping[str, str | int]] = {"max_prepared_transactions": 10}
    tree: Path = field(default=Path(), init=False)
    outputs: dict[str, str] = field(default_factory=dict, init=False)

    def fetch(self) -> None:
        self.tree, archive = fetch.debian_source(f"postgresql-{VERSION}", DEBIAN_SUITE, "src/test/regress")
        self.origin = f"Debian {archive}"

    def files(self) -> list[str]:
        """The names of the schedule, in its order."""
        lines = (self.tree / "parallel_schedule").read_text().splitlines()
        names = [n for line in lines if line.startswith("test:") for n in line[5:].split()]
        return [n for n in names if not self.select or n in self.select]

    def run(self, stage: Stage, log: Path) -> dict[str, Outcome]:
        """Outcomes are "passed" with the output as `why`: compare() makes differences of them."""
        folder = log.with_suffix("")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (stage.scratch / "results").mkdir()
        (stage.scratch / "results").chmod(0o777)
        libdir = fetch.call(
            [str(stage.cluster.server.bindir / "pg_config"), "--pkglibdir"], stage.scratch
        ).strip()
        env = stage.environment("regression") | {
            "PGTZ": "America/Los_Angeles",
            "PGDATESTYLE": "Postgres, MDY",
            "PGOPTIONS": "-c intervalstyle=postgres_verbose",
            "PGAPPNAME": "pg_regress",
            "PG_ABS_SRCDIR": str(self.tree),
            "PG_ABS_BUILDDIR": str(stage.scratch),
            "PG_LIBDIR": libdir,
            "PG_DLSUFFIX": ".so",
            "LC_MESSAGES": "C",
        }
        limit = time.monotonic() + self.seconds
        outcomes: dict[str, Outcome] = {}
        for name in self.files():
            if time.monotonic() > limit:
                break
            output = folder / f"{name}.out"
            variables = ["-v", "HIDE_TABLEAM=on", "-v", "HIDE_TOAST_COMPRESSION=on"]
            command = [program("psql"), "-X", "-a", "-q", "-d", "regression", *variables]
            source = self.tree / "sql" / f"{name}.sql"
            run_to_end([*command, "-f", str(source)], self.tree, env, output, FILE_SECONDS)
            outcomes[name] = Outcome(PASSED, output.read_text(errors="replace"))
        return outcomes


def compare(direct: Sequence[Mapping[str, Outcome]], pooled: Mapping[str, Outcome]) -> dict[str, Outcome]:
    """Check the files of a run through pgferry by two direct runs; lines that differ between those do not count."""
    judged: dict[str, Outcome] = {}
    for name, outcome in pooled.items():
        texts = [UNSTABLE.sub("~", run[name].why).splitlines() for run in direct if name in run]
        seen = UNSTABLE.sub("~", outcome.why).splitlines()
        if not texts:
            continue
        lines = _difference(texts[0], seen)
        if lines and len(texts) > 1:
            shaky = set(_difference(texts[0], texts[1])) | set(_difference(texts[1], texts[0]))
            lines = [] if set(lines) <= shaky else lines
        judged[name] = Outcome("failed", "\n".join(lines)) if lines else Outcome(PASSED)
    return judged


def _difference(left: Sequence[str], right: Sequence[str]) -> list[str]:
    """The lines of a diff without their surroundings' line numbers."""
    return [
        x
        for x in difflib.unified_diff(left, right, n=0, lineterm="")
        if not x.startswith(("---", "+++", "@@"))
    ]
