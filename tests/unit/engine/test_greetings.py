"""Logins that repeat themselves: what is remembered of startup packets and greetings, and when it is forgotten."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from pgferry.worker import configure
from support.fake_backend import PARAMETERS, FakeBackend
from support.rig import Port, Rig
from support.wire import message, startup

MakeRig = Callable[..., Rig]


def statuses(greeting: bytes) -> dict[str, str]:
    """The ParameterStatus messages of a greeting."""
    found, at = {}, 0
    while at < len(greeting):
        size = int.from_bytes(greeting[at + 1 : at + 5], "big")
        if greeting[at : at + 1] == b"S":
            name, value, _ = greeting[at + 5 : at + 1 + size].split(b"\0")
            found[name.decode()] = value.decode()
        at += 1 + size
    return found


def reconfigure(rig: Rig, **settings: Any) -> None:
    """As RELOAD does it."""
    rig.config = msgspec.structs.replace(
        rig.config, settings=msgspec.structs.replace(rig.config.settings, **settings)
    )
    rig.services.config = rig.config
    configure.apply(rig.engine, rig.config, first=False)


def greeted(rig: Rig, **parameters: str) -> tuple[Port, bytes]:
    port = rig.connect(startup("app", "db", **parameters))
    return port, port.read()


def without_key(greeting: bytes) -> bytes:
    """Everything but BackendKeyData."""
    at = greeting.index(b"K\0\0\0\x0c")
    return greeting[:at] + greeting[at + 13 :]


def test_the_same_packet_again(make_rig: MakeRig) -> None:
    """Clients with one packet are told the same, but for their keys, and share one set of values."""
    rig = make_rig()
    first, told = greeted(rig, application_name="one")
    second, again = greeted(rig, application_name="one")
    assert statuses(told)["application_name"] == "one"
    assert without_key(again) == without_key(told)
    assert first.stream.peer.cancel_key != second.stream.peer.cancel_key  # type: ignore[attr-defined]
    assert first.stream.vars is second.stream.vars  # type: ignore[attr-defined]
    _, other = greeted(rig, application_name="two")
    assert statuses(other)["application_name"] == "two"


def test_remembered_packets_are_few_and_small(make_rig: MakeRig) -> None:
    rig = make_rig()
    for n in range(600):
        greeted(rig, application_name=f"n{n}")
    assert 0 < len(rig.engine.greetings.startups) <= 256
    rig.engine.greetings.startups.clear()
    greeted(rig, application_name="x" * 2000)
    assert not rig.engine.greetings.startups


def test_a_refused_packet_is_refused_again(make_rig: MakeRig) -> None:
    rig = make_rig()
    for _ in range(2):
        port, told = greeted(rig, no_such_setting="1")
        assert b"unsupported startup parameter: no_such_setting" in told
        assert port.stream.closed


def test_a_new_configuration_reads_packets_anew(make_rig: MakeRig) -> None:
    rig = make_rig()
    assert b"unsupported startup parameter" in greeted(rig, extra="1")[1]
    reconfigure(rig, ignore_startup_parameters=frozenset({"extra"}))
    assert greeted(rig, extra="1")[1].endswith(b"Z\0\0\0\5I")
    reconfigure(rig, ignore_startup_parameters=frozenset())
    assert b"unsupported startup parameter" in greeted(rig, extra="1")[1]


def test_the_notice_of_the_present_configuration(make_rig: MakeRig) -> None:
    rig = make_rig(settings={"login_notify_message": "be welcome"})
    assert b"Mbe welcome\0" in greeted(rig)[1]
    reconfigure(rig, login_notify_message="")
    assert b"be welcome" not in greeted(rig)[1]


def test_with_the_host_in_the_name_nothing_is_remembered(make_rig: MakeRig) -> None:
    rig = make_rig(settings={"application_name_add_host": True})
    assert statuses(greeted(rig, application_name="one")[1])["application_name"] == "one - unix:6432"
    assert not rig.engine.greetings.startups


class Spelling(FakeBackend):
    """Writes one style in its own way."""

    def _say(self, kind: bytes, body: bytes = b"") -> None:
        super()._say(kind, body.replace(b"DateStyle\0german\0", b"DateStyle\0German, DMY\0"))


def test_a_value_that_postgresql_writes_differently(
    make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first client is told its own words; as soon as PostgreSQL has answered, others are told its words."""
    monkeypatch.setattr(Rig, "new_backend", lambda _, pid: Spelling(pid))
    rig = make_rig()
    first, told = greeted(rig, DateStyle="german")
    assert statuses(told)["DateStyle"] == "german"
    rig.feed(first, message(b"Q", b"SELECT 1\0"))
    for _ in range(2):
        second, again = greeted(rig, DateStyle="german")
        assert statuses(again)["DateStyle"] == "German, DMY"
    assert second.stream.vars is first.stream.vars  # type: ignore[attr-defined]


def test_another_server_version_is_told_at_once(make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that reports other parameters changes the greeting of a packet that is well known."""
    rig = make_rig(settings={"default_pool_size": 2})
    assert statuses(greeted(rig)[1])["server_version"] == "18.0"
    assert statuses(greeted(rig)[1])["server_version"] == "18.0"
    monkeypatch.setitem(PARAMETERS, "server_version", "99.1")
    rig.pool.forget_parameters()
    assert statuses(greeted(rig)[1])["server_version"] == "99.1"


@pytest.mark.parametrize("version", [0x00030000, 0x00030002])
def test_keys_are_as_long_as_the_protocol_says(make_rig: MakeRig, version: int) -> None:
    rig = make_rig()
    packet = startup("app", "db")
    packet = packet[:4] + version.to_bytes(4, "big") + packet[8:]
    for _ in range(2):
        port = rig.connect(packet)
        told = port.read()
        key = port.stream.peer.cancel_key  # type: ignore[attr-defined]
        assert len(key) == (36 if version == 0x00030002 else 8)
        assert b"K" + (len(key) + 4).to_bytes(4, "big") + key in told
        assert key[0] < 128
