"""Places at the HTTP port: who leaves for whom."""

import pytest

from pgferry.observe.places import MAX_CONNECTIONS, MAX_OF_ADDRESS, SURPLUS, Place, Places, owner_of


class Door:
    """Places, and who was dropped."""

    def __init__(self) -> None:
        self.places = Places()
        self.dropped: list[str] = []

    def enter(self, peer: str, name: str = "") -> Place:
        return self.places.enter(peer, lambda: self.dropped.append(name))


def test_the_idlest_of_an_address_makes_room_for_its_newest() -> None:
    door = Door()
    first = [door.enter("10.0.0.1", str(n)) for n in range(MAX_OF_ADDRESS)]
    other = door.enter("10.0.0.2", "other")
    door.places.moved(first[0], waits=True)
    newest = door.enter("10.0.0.1", "newest")
    assert (door.dropped, newest.surplus, other.surplus) == (["1"], False, False)
    assert len(door.places) == MAX_OF_ADDRESS + 1


def test_the_idlest_of_all_makes_room_when_the_port_is_full() -> None:
    door = Door()
    for n in range(MAX_CONNECTIONS):
        door.enter(f"10.0.{n // 8}.1", str(n))
    assert not door.enter("10.9.9.9").surplus
    assert door.dropped == ["0"]
    assert len(door.places) == MAX_CONNECTIONS


def test_who_is_being_served_stays_and_a_newcomer_gets_a_surplus_place() -> None:
    door = Door()
    for n in range(MAX_CONNECTIONS):
        door.places.moved(door.enter(f"10.0.{n // 8}.1", str(n)), waits=False)
    surplus = [door.enter("10.9.9.9", f"surplus {n}") for n in range(SURPLUS)]
    assert all(place.surplus for place in surplus)
    assert door.dropped == []
    assert door.enter("10.9.9.8").surplus
    assert door.dropped == ["surplus 0"], "the places for health checks are not used up either"
    assert len(door.places) == MAX_CONNECTIONS + SURPLUS


def test_places_are_given_back_once() -> None:
    door = Door()
    places = [door.enter("10.0.0.1") for _ in range(MAX_OF_ADDRESS + 5)]
    for place in places:
        door.places.leave(place)
        door.places.leave(place)
        door.places.moved(place, waits=True)
    assert len(door.places) == 0
    assert not door.enter("10.0.0.1").surplus


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
