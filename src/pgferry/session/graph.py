"""What uses what, and what each node may do in the end: its own bits and those of all that it uses."""

from collections import defaultdict
from collections.abc import Iterator

NAMES = 100  # settings that are carried with a node; beyond these it may change any that is known


class Graph:
    """Nodes with bits and names of settings, and edges from users to what they use."""

    def __init__(self) -> None:
        self.bits: dict[bytes, int] = {}
        self.names: dict[bytes, frozenset[bytes] | None] = {}  # None: too many to be told
        self.steps = 0  # edges that settle() has followed
        self._uses: dict[bytes, list[bytes]] = defaultdict(list)

    def uses(self, user: bytes, used: bytes) -> None:
        """One node uses another."""
        self._uses[user].append(used)

    def add(self, node: bytes, bits: int, names: frozenset[bytes]) -> None:
        """Give a node bits and names of its own."""
        self.bits[node] = self.bits.get(node, 0) | int(bits)
        self.names[node] = _union(self.names.get(node, frozenset()), names)

    def settle(self, everything: bytes) -> None:
        """Give each node what it has by way of what it uses. The node `everything` uses all others.

        Nodes that use each other are alike, so each such group is one; the groups are taken in an order in which
        what is used comes before its users. So each edge is followed once.
        """
        self._uses[everything] = [node for node in self.bits if node != everything]
        for group in self._groups():
            members = set(group)
            bits = 0
            names: frozenset[bytes] | None = frozenset()
            for node in group:
                bits |= self.bits.get(node, 0)
                names = _union(names, self.names.get(node, frozenset()))
                for used in self._uses.get(node, ()):
                    if used not in members:
                        bits |= self.bits.get(used, 0)
                        names = _union(names, self.names.get(used, frozenset()))
            if bits:
                for node in group:
                    self.bits[node], self.names[node] = bits, names

    def _groups(self) -> Iterator[list[bytes]]:
        """The strongly connected components, what is used before its users (Tarjan's algorithm, without recursion)."""
        order: dict[bytes, int] = {}
        low: dict[bytes, int] = {}
        open_nodes: list[bytes] = []
        is_open: set[bytes] = set()
        for root in list(self._uses):
            if root in order:
                continue
            order[root] = low[root] = len(order)
            open_nodes.append(root)
            is_open.add(root)
            path = [(root, iter(self._uses[root]))]
            while path:
                node, rest = path[-1]
                for used in rest:
                    self.steps += 1
                    if used not in order:
                        order[used] = low[used] = len(order)
                        open_nodes.append(used)
                        is_open.add(used)
                        path.append((used, iter(self._uses.get(used, ()))))
                        break
                    if used in is_open:
                        low[node] = min(low[node], order[used])
                else:
                    path.pop()
                    if path:
                        low[path[-1][0]] = min(low[path[-1][0]], low[node])
                    if low[node] == order[node]:
                        group = [open_nodes.pop()]
                        while group[-1] != node:
                            group.append(open_nodes.pop())
                        is_open.difference_update(group)
                        yield group


def _union(one: frozenset[bytes] | None, other: frozenset[bytes] | None) -> frozenset[bytes] | None:
    """Both together; the same object where one adds nothing to the other."""
    if one is None or other is None:
        return None
    if other <= one:
        return one
    if one <= other:
        return other
    both = one | other
    return both if len(both) <= NAMES else None
