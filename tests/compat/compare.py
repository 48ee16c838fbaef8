"""Compares two records and leaves out the differences that are known, documented and have a reason."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

from compat.witness import Record

# PgBouncer's log does not name a client before it knows both; pgferry's names what was asked for (NAMES_ROW).
NOT_NAMED = re.compile(r"[A-Z]+ C: \(nodb\)/")
NAMES_ROW = "clients in the log whose login is not over"


@dataclass(frozen=True, slots=True)
class Known:
    """A difference that stays: lines that only one of the two says. Everything is a regular expression.

    `row` stands in docs/from-pgbouncer.md. `only`: the PgBouncer version that differs ("1.24"), empty for all.
    `test` and `step`: in which comparisons, in which steps. An entry for one test must be needed there.
    """

    row: str
    theirs: str = ""
    ours: str = ""
    step: str = ".*"
    test: str = ".*"
    only: str = ""

    def explains(self, line: "Difference") -> bool:
        """Whether this is it."""
        text = self.theirs if line.side == "PgBouncer" else self.ours
        return bool(text and re.fullmatch(self.step, line.step) and re.fullmatch(text, line.line))

    def counts(self, test: str, version: str) -> bool:
        """Whether it may be met in this test with this version of PgBouncer."""
        return re.fullmatch(self.test, test) is not None and self.only in ("", version)


@dataclass(frozen=True, slots=True)
class Difference:
    """A line that only one of the two poolers said."""

    step: str
    side: str
    line: str

    def __str__(self) -> str:
        return f"[{self.step}] only {self.side}: {self.line}"


def differences(theirs: Record, ours: Record) -> list[Difference]:
    """Everything in which the records are not alike."""
    found: list[Difference] = []
    for step in dict.fromkeys(chain(theirs, ours)):
        a, b = theirs.get(step, ["no such step"]), ours.get(step, ["no such step"])
        only_a, only_b = Counter(a) - Counter(b), Counter(b) - Counter(a)
        for line in [line for line in only_a if NOT_NAMED.match(line)]:
            named = next((other for other in only_b if _unnamed(other) == _unnamed(line)), None)
            if named is not None:
                only_a -= Counter([line])
                only_b -= Counter([named])
        found += [Difference(step, "PgBouncer", line) for line in only_a.elements()]
        found += [Difference(step, "pgferry", line) for line in only_b.elements()]
        if not only_a and not only_b and a != b and not step.endswith(": log"):
            found.append(Difference(step, "PgBouncer", f"another order: {a}"))
            found.append(Difference(step, "pgferry", f"another order: {b}"))
    return _without_late(found, [step for step in ours if step.endswith(": log")])


def _without_late(found: list[Difference], steps: list[str]) -> list[Difference]:
    """Leave out the lines of the log that one of the two was late to write: in one of the next two steps."""
    left = list(found)
    for line in found:
        at = steps.index(line.step) if line.step in steps else len(steps)
        for late in found:
            same = late.line == line.line and late.side != line.side and late.step in steps[at + 1 : at + 3]
            if same and line in left and late in left:
                left.remove(line)
                left.remove(late)
    return left


def _unnamed(line: str) -> str:
    return re.sub(r"^([A-Z]+ C: )[^@]*@", r"\1", line)


def unexpected_differences(
    theirs: Record, ours: Record, known: Iterable[Known], test: str, version: str
) -> str:
    """What is wrong: differences that nobody knows of, known ones that are none. Empty when nothing is."""
    expected = [entry for entry in known if entry.counts(test, version)]
    found = differences(theirs, ours)
    new = [str(line) for line in found if not any(entry.explains(line) for entry in expected)]
    stale = [
        f"known, but not there: {entry}"
        for entry in expected
        if entry.test == test and not any(entry.explains(line) for line in found)
    ]
    return "\n".join([*new, *stale])
