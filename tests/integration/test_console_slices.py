"""SHOW of many clients is made between turns of the worker's loop: nobody else waits for it."""

import contextlib
from collections.abc import Callable

import pytest

from pgferry.embedded import Cluster
from support.clients import raw
from support.pooler import Pooler


@pytest.mark.workers(2)
def test_many_clients(cluster: Cluster, make_pooler: Callable[..., Pooler]) -> None:
    """Each of them once, and all while others come and go."""
    pooler = make_pooler(cluster, settings={"max_client_conn": 2000}, workers=2)
    with contextlib.ExitStack() as stack:
        for n in range(600):
            stack.enter_context(raw(pooler, application_name=f"many {n}"))
        for what in ("CLIENTS", "SOCKETS"):
            with raw(pooler, application_name="passer-by"):
                names = [row["application_name"] for row in pooler.show(what) if row["type"] == "C"]
            assert sorted(name for name in names if name.startswith("many")) == sorted(
                f"many {n}" for n in range(600)
            )
