"""The ClientHello's list of application protocols, of real clients and of broken ones."""

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgferry.tls.hello import offered_protocols


def hello(protocols: list[str], version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = context.maximum_version = version
    if protocols:
        context.set_alpn_protocols(protocols)
    out = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="db.test").do_handshake()
    return out.read()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("protocols", [[], ["postgresql"], ["h2", "http/1.1"], ["x" * 255, "postgresql"]])
def test_real_clients(protocols: list[str], version: ssl.TLSVersion) -> None:
    found = offered_protocols(hello(protocols, version))
    assert found == ([name.encode() for name in protocols] or None)


def test_cut_and_changed() -> None:
    data = hello(["postgresql"])
    for size in range(len(data)):
        assert offered_protocols(data[:size]) is None
    for place in range(len(data)):
        offered_protocols(data[:place] + b"\xff" + data[place + 1 :])


@given(st.binary(max_size=200))
def test_anything(data: bytes) -> None:
    offered_protocols(data)
    offered_protocols(b"\x16\x03\x01" + len(data).to_bytes(2, "big") + data)
