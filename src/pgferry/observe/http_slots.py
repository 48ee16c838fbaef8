"""Connections at the HTTP port: who is let in, who has to leave for it, and that health checks always get through.

A new connection is never refused because others are silent: when its address, or the whole port, has no slot left, the
connection leaves that has been waiting for its peer for longest. Where nobody waits (all are being served), the
new one gets a surplus slot, which is good for a health check only.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

MAX_CONNECTIONS = 256
MAX_OF_ADDRESS = 64
SURPLUS = 128
"""HttpSlots beyond MAX_CONNECTIONS, for health checks."""


@dataclass(slots=True, eq=False)
class HttpSlot:
    """One connection: whose it is, how it is ended, and whether its peer has the next move."""

    owner: str
    drop: Callable[[], None]
    surplus: bool = False
    waits: bool = True
    """For the peer: to send a request, or to read an answer. Only such a connection is dropped for another."""


class HttpSlots:
    """All connections, the one whose peer did nothing for longest first."""

    def __init__(self) -> None:
        self._regular: dict[HttpSlot, None] = {}
        self._surplus: dict[HttpSlot, None] = {}
        self._of_owner: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._regular) + len(self._surplus)

    def enter(self, peer: str, drop: Callable[[], None]) -> HttpSlot:
        """A slot for a new connection of the address `peer`; another connection may be dropped for it."""
        slot = HttpSlot(owner_of(peer), drop)
        if self._of_owner[slot.owner] >= MAX_OF_ADDRESS:
            slot.surplus = not self._make_room(each for each in self._regular if each.owner == slot.owner)
        elif len(self._regular) >= MAX_CONNECTIONS:
            slot.surplus = not self._make_room(self._regular)
        if slot.surplus and len(self._surplus) >= SURPLUS:
            self._make_room(self._surplus)
        self._row(slot)[slot] = None
        if not slot.surplus:
            self._of_owner[slot.owner] += 1
        return slot

    def leave(self, slot: HttpSlot) -> None:
        """The connection has ended (again, perhaps: it was dropped before)."""
        row = self._row(slot)
        if slot not in row:
            return
        del row[slot]
        if not slot.surplus:
            self._of_owner[slot.owner] -= 1
            if not self._of_owner[slot.owner]:
                del self._of_owner[slot.owner]

    def moved(self, slot: HttpSlot, *, waits: bool) -> None:
        """The peer has done its part; `waits`: the next one is the peer's, too."""
        slot.waits = waits
        row = self._row(slot)
        if slot in row:
            del row[slot]
            row[slot] = None

    def _row(self, slot: HttpSlot) -> dict[HttpSlot, None]:
        return self._surplus if slot.surplus else self._regular

    def _make_room(self, among: Iterable[HttpSlot]) -> bool:
        """Drop the idlest connection of these; False when none waits."""
        slot = next((each for each in among if each.waits), None)
        if slot is None:
            return False
        self.leave(slot)
        slot.drop()
        return True


def owner_of(peer: str) -> str:
    """What counts as one address: an IPv4 address, or the /64 that a host has of IPv6."""
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return peer
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, 64), strict=False))
