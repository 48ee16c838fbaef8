"""Loads and changes as they are written on the command line."""

from __future__ import annotations

import re

from pgferry.advise.holding import constant, exponential, lognormal
from pgferry.advise.plan import Load

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "": 1e-3}


def seconds(text: str) -> float:
    """A time such as 5ms, 0.2s, 300us; without a unit milliseconds. Raises ValueError."""
    match = re.fullmatch(r"([0-9]*\.?[0-9]+) ?(us|ms|s|min|)", text.strip())
    if match is None or float(match[1]) <= 0:
        raise ValueError(f"{text} is no time: write 5ms, 0.2s, 300us")
    return float(match[1]) * _UNITS[match[2]]


def load(text: str) -> Load:
    """`name=200/5ms`: transactions a second and their mean time; `/5ms/40ms` adds the 99th percentile, `@20` the size.

    A 99th percentile equal to the mean means that all take the same time. Raises ValueError.
    """
    match = re.fullmatch(
        r"(?:([^=/@]+)=)?([0-9]*\.?[0-9]+)/([^/@]+)(?:/([^/@]+))?(?:@([0-9]+))?", text.strip()
    )
    if match is None or float(match[2]) <= 0:
        raise ValueError(
            f"{text} is no load: write name=200/5ms, that is transactions a second and their time"
        )
    mean = seconds(match[3])
    holding = exponential(mean)
    if match[4]:
        p99 = seconds(match[4])
        holding = constant(mean) if p99 == mean else lognormal(mean, p99)
    return Load(match[1] or "load", float(match[2]), holding, int(match[5] or 0))


def changes(texts: tuple[str, ...]) -> dict[str, tuple[float, ...]]:
    """`traffic=2`, `slow=1%:2s`, `pods=40x50`, several with blanks or in several options. Raises "
    "ValueError."""
    found: dict[str, tuple[float, ...]] = {}
    for item in " ".join(texts).split():
        name, _, value = item.partition("=")
        if name == "traffic" and re.fullmatch(r"[0-9]*\.?[0-9]+", value) and float(value) > 0:
            found[name] = (float(value),)
        elif name == "slow" and (match := re.fullmatch(r"([0-9]*\.?[0-9]+)%:(.+)", value)):
            if not 0 < float(match[1]) <= 100:
                raise ValueError("slow=PERCENT:TIME has a percentage from 0.01 to 100")
            found[name] = (float(match[1]) / 100, seconds(match[2]))
        elif name == "pods" and (match := re.fullmatch(r"([0-9]+)x([0-9]+)", value)):
            found[name] = (float(match[1]), float(match[2]))
        else:
            raise ValueError(f"{item} is not understood: traffic=2, slow=1%:2s or pods=40x50")
    return found
