"""Metrics as text for a scraper, in both of Prometheus' formats.

prometheus-client has writers, too: they take ten times as long, which with a thousand pools is seconds. What is
written here is the same to the byte (tests/unit/observe).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.samples import Sample

Buckets = Sequence[tuple[str, float]]
_OPENMETRICS = "application/openmetrics-text"
_VERSION = re.compile(r"version=([^,;]*)")
_VERSIONS = ("0.0.1", "0.0.4", "1.0.0")
_PLAIN_NAMES = ("underscores", "allow-utf-8")
"""Of what scrapers can ask to be done with names: these leave ours as they are."""


class Histograms(HistogramMetricFamily):
    """A family that keeps its rows as they came: a sample for each bucket is made only when asked for."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str]) -> None:
        self.rows: list[tuple[Sequence[str], Buckets, float]] = []
        super().__init__(name, documentation, labels=labels)
        self.labels = tuple(labels)

    def add(self, labels: Sequence[str], buckets: Buckets, total: float) -> None:
        """A histogram: (upper bound, count up to there) in order, "+Inf" last, and the sum."""
        self.rows.append((labels, buckets, total))

    @property
    def samples(self) -> list[Sample]:
        """What other writers read."""
        family = HistogramMetricFamily(self.name, self.documentation, labels=self.labels)
        for labels, buckets, total in self.rows:
            family.add_metric(labels, buckets, sum_value=total)
        return family.samples

    @samples.setter
    def samples(self, value: list[Sample]) -> None:
        assert not value


class _Collected:
    """Families that have been made already, as a collector."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """What a registry asks for."""
        return self._families


def registry(families: Sequence[Metric]) -> CollectorRegistry:
    """What prometheus-client's own writers read."""
    made = CollectorRegistry(auto_describe=False)
    made.register(_Collected(families))
    return made


def writer(accept: str) -> tuple[Callable[[Sequence[Metric]], bytes], str]:
    """(what writes, content type) for the Accept header of a scraper."""
    # The version is a stranger's text that comes back in the content type: only those that there are.
    known = _VERSION.sub(lambda match: match[0] if match[1] in _VERSIONS else "version=1.0.0", accept)
    theirs, content_type = choose_encoder(known)
    escaping = content_type.partition("escaping=")[2]
    if escaping and escaping not in _PLAIN_NAMES:
        return lambda families: theirs(registry(families)), content_type
    openmetrics = content_type.startswith(_OPENMETRICS)
    return lambda families: write(families, openmetrics=openmetrics), content_type


def write(families: Iterable[Metric], *, openmetrics: bool) -> bytes:
    """The text. No family has timestamps, exemplars or a unit."""
    parts: list[str] = []
    for family in families:
        name, text = family.name, family.documentation.replace("\\", r"\\").replace("\n", r"\n")
        if openmetrics:
            text = text.replace('"', r"\"")
        elif family.type == "counter":
            name += "_total"
        parts.append(f"# HELP {name} {text}\n# TYPE {name} {family.type}\n")
        parts += _histograms(family) if isinstance(family, Histograms) else map(_sample, family.samples)
    if openmetrics:
        parts.append("# EOF\n")
    return "".join(parts).encode()


def _sample(sample: Sample) -> str:
    labels = sample.labels
    if not labels:
        return f"{sample.name} {_number(sample.value)}\n"
    inner = ",".join([f'{name}="{_escaped(labels[name])}"' for name in sorted(labels)])
    return f"{sample.name}{{{inner}}} {_number(sample.value)}\n"


def _histograms(family: Histograms) -> Iterator[str]:
    """The lines of all rows; labels are in order of name, so "le" may have some in front and some behind."""
    order = sorted(range(len(family.labels)), key=lambda i: family.labels[i])
    for labels, buckets, total in family.rows:
        pairs = [(family.labels[i], f'{family.labels[i]}="{_escaped(labels[i])}"') for i in order]
        before = "".join(f"{text}," for name, text in pairs if name < "le")
        after = "".join(f",{text}" for name, text in pairs if name > "le")
        head, tail = f'{family.name}_bucket{{{before}le="', f'"{after}}} '
        for bound, count in buckets:
            yield f"{head}{bound}{tail}{_number(count)}\n"
        own = ",".join(text for _, text in pairs)
        own = f"{{{own}}}" if own else ""
        yield f"{family.name}_count{own} {_number(buckets[-1][1])}\n"
        yield f"{family.name}_sum{own} {_number(total)}\n"


def _escaped(value: str) -> str:
    if "\\" in value or "\n" in value or '"' in value:
        return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    return value


def _number(value: float) -> str:
    """As Go writes it, which has exponents sooner than Python."""
    value = float(value)
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    text = repr(value)
    dot = text.find(".")
    if value <= 0 or dot <= 6:
        return text
    digits = text.replace(".", "").rstrip("0")
    return f"{digits[0]}{'.' if digits[1:] else ''}{digits[1:]}e+{dot - 1:02}"
