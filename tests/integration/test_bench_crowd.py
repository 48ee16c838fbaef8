"""The crowd of the benchmark's storm: everybody gets in over TLS with SCRAM, and one client keeps asking."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.certificates import PemFiles, pair
from support.pooler import Pooler

ROOT = Path(__file__).resolve().parents[2]
SECRET = "a plain secret"


def crowd(mode: str, pooler: Pooler, *more: str) -> "subprocess.Popen[str]":
    command = [
        sys.executable,
        "-m",
        "bench.crowd",
        mode,
        str(pooler.port),
        "postgres",
        SECRET,
        "postgres",
        *more,
    ]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.usefixtures("cluster")
@pytest.mark.workers(1)
@pytest.mark.pg(15)
def test_everybody_gets_in(make_pooler: Callable[..., Pooler], pem_files: PemFiles) -> None:
    cert, key = pem_files.pair("server", pair())
    tls = {"client_tls_sslmode": "require", "client_tls_key_file": key, "client_tls_cert_file": cert}
    pooler = make_pooler(
        settings={"auth_type": "scram-sha-256", "default_pool_size": 5, "max_client_conn": 200, **tls},
        userlist={"postgres": SECRET},
    )
    probe = crowd("probe", pooler)
    assert probe.stdout is not None
    assert probe.stdout.readline() == "in\n"
    told = json.loads(crowd("crowd", pooler, "100").communicate(timeout=60)[0])
    assert len(told["times"]) == 100
    assert not told["failures"]
    answers = json.loads(probe.communicate(timeout=20)[0])["answers"]
    assert len(answers) > 3
    # Those of the pool, and one of pgferry's own that reads the catalog.
    assert pooler.log().count("new connection to server") <= 5 + 1
