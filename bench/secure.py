"""The cost of TLS between clients and pooler: of a transaction, and of a large result."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import trustme

from . import pgbench, wire
from .processes import CpuMeter
from .results import Cell
from .server import DATABASE
from .targets import TRUST, Login, Pooler

RESULT_BYTES = 100_000_000
TEXT_BYTES = 1000


def secured(target: Pooler, cell: Cell, seconds: float) -> dict[str, float]:
    """Measure `cell` on a pooler that has been started anew and asks for TLS; it is without it afterwards."""
    try:
        with with_tls(target):
            target.settings["client_tls_sslmode"] = "allow"  # whoever looks whether it is up comes without
            target.start(TRUST)
            if cell.variant == "result":
                return _result(target)
            load = replace(pgbench.Load(cell.clients, cell.variant, seconds), tls=True)
            return pgbench.run(load, target.port, TRUST, target.root)
    finally:
        target.start(TRUST)


@contextmanager
def with_tls(target: Pooler) -> Iterator[None]:
    """The target's settings with TLS for clients; as they were, and the target stopped, afterwards."""
    kept = dict(target.settings)
    pair = trustme.CA().issue_cert("localhost")
    files = {
        "cert": b"".join(part.bytes() for part in pair.cert_chain_pems),
        "key": pair.private_key_pem.bytes(),
    }
    try:
        for kind, text in files.items():
            path = target.folder / f"{target.name}-tls.{kind}"
            target.account.write(path, text.decode())
            target.settings[f"client_tls_{kind}_file"] = str(path)
        target.settings["client_tls_sslmode"] = "require"
        yield
    finally:
        target.stop()
        target.settings = kept


def _result(target: Pooler, login: Login = TRUST) -> dict[str, float]:
    """Fetch one result of RESULT_BYTES in rows of TEXT_BYTES."""
    rows = math.ceil(RESULT_BYTES / TEXT_BYTES)
    with wire.login(target.port, login.user, DATABASE, timeout_s=120, sslmode="require") as link:
        begin = time.monotonic()
        with CpuMeter(target.root) as meter:
            received = wire.discard_result(
                link, f"SELECT repeat('x', {TEXT_BYTES}) FROM generate_series(1, {rows})"
            )
        seconds = time.monotonic() - begin
    megabytes = received / 1e6
    return {"mb_per_s": megabytes / seconds, "cpu_ms_per_100mb": meter.total_s * 1000 * 100 / megabytes}
