"""What Python sees of the response plan."""

class Plan:
    effects: int
    batch: int
    unnamed: int
    def __len__(self) -> int: ...
    def entries(self) -> list[tuple[int, int, int]]: ...
