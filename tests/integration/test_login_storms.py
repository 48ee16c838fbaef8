"""Many new clients at once hold up nobody: what a worker does first is read from the order of its log.

The worker is stopped until everything has come, a word of a client that is long in as the last of it. So no test here
depends on how fast anything is: a slower machine does less of the storm before that client's turn, not more.
"""

import os
import re
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.certificates import PemFiles, pair
from support.pooler import Pooler, eventually
from support.wire import SSL_CODE, Wire, special, startup, terminate

Make = Callable[..., Pooler]
SSL_REQUEST = special(SSL_CODE)
CROWD = 400  # more than a worker takes from the kernel in one turn
LEFT = re.compile(r"closing because: client close request")

pytestmark = [pytest.mark.pg(18), pytest.mark.workers(1), pytest.mark.usefixtures("cluster")]


@contextmanager
def crowd(pooler: Pooler, answer: bytes) -> Iterator[list[socket.socket]]:
    """So many connections that the worker has accepted."""
    socks = []
    try:
        for _ in range(CROWD):
            sock = socket.create_connection((pooler.host, pooler.port), 30)
            socks.append(sock)
            sock.sendall(SSL_REQUEST)
            assert sock.recv(1) == answer
        yield socks
    finally:
        for sock in socks:
            sock.close()


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """The worker sees nothing of what happens meanwhile, and then all of it at once."""
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def before_the_other(pooler: Pooler, pattern: str) -> int:
    """How many of the crowd were served before the client that has left."""
    eventually(lambda: len(re.findall(pattern, pooler.log())) == CROWD, timeout=60)
    left = LEFT.search(pooler.log())
    assert left
    return len(re.findall(pattern, pooler.log()[: left.start()]))


def test_handshakes(make_pooler: Make, pem_files: PemFiles) -> None:
    """400 clients shake hands (RSA, a millisecond each) and are refused when that work is done."""
    cert, key = pem_files.pair("rsa", pair(rsa=True))
    pooler = make_pooler(
        settings={
            "client_tls_sslmode": "allow",
            "client_tls_cert_file": cert,
            "client_tls_key_file": key,
            "max_client_conn": 1000,
        }
    )
    records = client_hello() + b"no record at all"
    other = Wire.login((pooler.host, pooler.port))
    with crowd(pooler, b"S") as socks:
        with stopped(pooler.worker_pids[0]):
            for sock in socks:
                sock.sendall(records)
            other.send(terminate())
        assert before_the_other(pooler, "closing because: TLS handshake failed") < CROWD // 4


def test_logins(make_pooler: Make) -> None:
    """400 clients send their startup packets."""
    pooler = make_pooler(settings={"max_client_conn": 1000})
    other = Wire.login((pooler.host, pooler.port))
    with crowd(pooler, b"N") as socks:
        with stopped(pooler.worker_pids[0]):
            for sock in socks:
                sock.sendall(startup("postgres", "template1"))
            other.send(terminate())
        assert before_the_other(pooler, "login attempt: db=template1 user=postgres") < CROWD // 2
        for sock in socks[::50]:
            assert sock.recv(1) == b"R"


def client_hello() -> bytes:
    """The first bytes of a client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    out = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out).do_handshake()
    return out.read()
