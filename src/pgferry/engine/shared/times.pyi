"""What Python sees of the histograms."""

KINDS: tuple[str, ...]
BUCKETS: int

class Times:
    def note(self, kind: int, seconds: float) -> None: ...
    def row(self) -> dict[str, tuple[int, bytes]]: ...
