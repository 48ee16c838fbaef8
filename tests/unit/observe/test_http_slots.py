"""HttpSlots at the HTTP port: who leaves for whom."""

import pytest

from pgferry.observe.http_slots import MAX_CONNECTIONS, MAX_OF_ADDRESS, SURPLUS, HttpSlot, HttpSlots, owner_of


class HttpPort:
    """HttpSlots, and who was dropped."""

    def __init__(self) -> None:
        self.slots = HttpSlots()
        self.dropped: list[str] = []

    def enter(self, peer: str, name: str = "") -> HttpSlot:
        return self.slots.enter(peer, lambda: self.dropped.append(name))


def test_the_idlest_of_an_address_makes_room_for_its_newest() -> None:
    port = HttpPort()
    first = [port.enter("10.0.0.1", str(n)) for n in range(MAX_OF_ADDRESS)]
    other = port.enter("10.0.0.2", "other")
    port.slots.moved(first[0], waits=True)
    newest = port.enter("10.0.0.1", "newest")
    assert (port.dropped, newest.surplus, other.surplus) == (["1"], False, False)
    assert len(port.slots) == MAX_OF_ADDRESS + 1


def test_the_idlest_of_all_makes_room_when_the_port_is_full() -> None:
    port = HttpPort()
    for n in range(MAX_CONNECTIONS):
        port.enter(f"10.0.{n // 8}.1", str(n))
    assert not port.enter("10.9.9.9").surplus
    assert port.dropped == ["0"]
    assert len(port.slots) == MAX_CONNECTIONS


def test_who_is_being_served_stays_and_a_newcomer_gets_a_surplus_place() -> None:
    port = HttpPort()
    for n in range(MAX_CONNECTIONS):
        port.slots.moved(port.enter(f"10.0.{n // 8}.1", str(n)), waits=False)
    surplus = [port.enter("10.9.9.9", f"surplus {n}") for n in range(SURPLUS)]
    assert all(slot.surplus for slot in surplus)
    assert port.dropped == []
    assert port.enter("10.9.9.8").surplus
    assert port.dropped == ["surplus 0"], "the slots for health checks are not used up either"
    assert len(port.slots) == MAX_CONNECTIONS + SURPLUS


def test_places_are_given_back_once() -> None:
    port = HttpPort()
    slots = [port.enter("10.0.0.1") for _ in range(MAX_OF_ADDRESS + 5)]
    for slot in slots:
        port.slots.leave(slot)
        port.slots.leave(slot)
        port.slots.moved(slot, waits=True)
    assert len(port.slots) == 0
    assert not port.enter("10.0.0.1").surplus


@pytest.mark.parametrize(
    ("peer", "owner"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_whose_an_address_is(peer: str, owner: str) -> None:
    assert owner_of(peer) == owner
