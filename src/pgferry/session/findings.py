"""What was found in a text so far, statement by statement, and the verdict that comes of it."""

from collections.abc import Iterable, Mapping

from pgferry.session.verdict import (
    DEFINES,
    HARMLESS,
    MAKES,
    NEED_SHIFT,
    NOTIFIES,
    PINNING,
    Need,
    Touch,
    Verdict,
)

_TOUCH_BITS = (1 << NEED_SHIFT) - 1
_NEED_BITS = NOTIFIES - 1 >> NEED_SHIFT
ANY_LOCAL = (
    b""  # among the names of the settings of a word: it sets one of unknown name until the transaction ends
)
_LASTING = PINNING | Touch.FOREVER

# Old names that PostgreSQL still accepts, and settings that change together with the one that is named.
_RENAMED = {b"sort_mem": b"work_mem", b"vacuum_mem": b"maintenance_work_mem"}
_TOGETHER = {b"session_authorization": (b"session_authorization", b"role")}


class Findings:
    """Collects; everything is a union, so that the order of the statements does not matter."""

    __slots__ = (
        "_all_resets",
        "_any_local",
        "_any_setting",
        "_names",
        "_rank",
        "_resets",
        "_settings_of",
        "clears",
        "defines",
        "discards",
        "ends",
        "ends_transaction",
        "listens",
        "makes",
        "needs",
        "notifies",
        "params",
        "plain",
        "prepares",
        "reason",
        "resets_at",
        "rewrites",
        "touch",
    )

    def __init__(self, settings: Mapping[bytes, Iterable[bytes]] | None = None) -> None:
        self._settings_of = settings or {}
        self.touch = 0
        self.ends = 0
        self.needs = 0
        self.discards = 0
        self.clears = 0
        self.notifies = False
        self.defines = False  # see Verdict
        self.makes = False  # a table: it defines what its text names, in defaults and checks
        self.ends_transaction = False
        self.plain: tuple[bytes, bytes] | None = None
        self.params: list[int] = []
        self.listens: list[bytes] = []
        self.prepares: list[bytes] = []
        self.rewrites: list[tuple[int, int, int, bytes]] = []
        self.reason = ""
        self.resets_at: list[tuple[int, int, tuple[bytes, ...] | None]] = []
        self._rank = 0
        self._names: list[bytes] = []
        self._resets: list[bytes] = []
        self._any_setting = False
        self._any_local = False
        self._all_resets = 0

    def add(self, bits: int, reason: str) -> None:
        """State is touched. What lasts gives the reason before anything else, and else what comes first."""
        self.touch |= bits
        self.because(reason, 3 if bits & _LASTING else 2)

    def because(self, reason: str, rank: int = 1) -> None:
        """Keep a reason, unless there is one as good."""
        if rank > self._rank:
            self.reason, self._rank = reason, rank

    def bits(self, value: int, reason: str) -> None:
        """Add a word's value: Touch bits and, above them, Need bits, NOTIFIES, DEFINES and MAKES."""
        touch = value & _TOUCH_BITS
        self.needs |= value >> NEED_SHIFT & _NEED_BITS
        self.notifies |= bool(value & NOTIFIES)
        self.defines |= bool(value & DEFINES)
        self.makes |= bool(value & MAKES)
        if touch & (Touch.SETTINGS | Touch.UNNAMED | Touch.UNREADABLE):
            self._any_setting = True
        if touch & Touch.LOCAL and not self._names:
            self._any_local = True
        if touch:
            self.add(touch, reason)
        else:
            self.because(reason)

    def known(self, word: bytes, value: int, reason: str) -> None:
        """A word of the catalog with its value; the settings it changes are known, or else it may be any."""
        names = self._settings_of.get(word, ())
        for name in names:
            if name == ANY_LOCAL:
                self.local(None, reason)
            elif value & Touch.SETTINGS:
                self.setting(name, reason)
            else:
                self.local(name, reason)
        if names:
            value &= ~int(Touch.SETTINGS)  # of a Touch it would be all other Touch bits, and none above them
        elif value & Touch.LOCAL:
            self.local(None, reason)
        self.bits(value, reason)

    def setting(self, name: bytes, reason: str | None = None) -> bytes:
        """A setting is changed. Returns its lower-case name as PostgreSQL lists it."""
        name = name.lower()
        if not name.isascii():  # in the database's encoding it may have another name
            self.any_setting(reason or "SET", unnamed=True)
            return name
        name = _RENAMED.get(name, name)
        self._names += _TOGETHER.get(name, (name,))
        if name == b"seed":
            self.add(Touch.SETTINGS | Touch.FOREVER, reason or "SET SEED")
        else:
            self.add(Touch.SETTINGS, reason or "SET " + name.decode("utf-8", "replace"))
        return name

    def local(self, name: bytes | None, reason: str) -> None:
        """A setting is changed until the end of the transaction; None: which one is not known."""
        self.touch |= Touch.LOCAL
        self.because(reason)
        if name is None:
            self._any_local = True
        elif name.lower() == b"client_encoding":  # later texts of this transaction have to be read in it
            self.setting(name)
        else:
            name = name.lower()
            self._names += _TOGETHER.get(name, (_RENAMED.get(name, name),))

    def any_setting(self, reason: str, unnamed: bool = False) -> None:
        """Some setting is changed; `unnamed`: perhaps a custom one, which PostgreSQL does not list."""
        self._any_setting = True
        self.add(Touch.SETTINGS | (Touch.UNNAMED if unnamed else 0), reason)

    @property
    def is_any_setting(self) -> bool:
        """Whether any setting may be changed, and not only those that are named."""
        return self._any_setting

    def hint(self, names: Iterable[bytes]) -> None:
        """Names that are worth asking for, where any setting may have changed."""
        self._names += names

    def reset(self, name: bytes | None) -> None:
        """A setting goes back to its start value; None: all of them do."""
        if name is None:
            self._all_resets += 1
        elif name not in (b"role", b"session_authorization"):
            self._resets.append(name)

    def resets_so_far(self) -> tuple[int, int]:
        """How many times settings have gone back by name, and all of them."""
        return len(self._resets), self._all_resets

    def note_reset(self, before: tuple[int, int], end: int, number: int) -> None:
        """The statement `number`, which ends at `end`, has been read: note what it sets back."""
        names = None if self._all_resets > before[1] else tuple(self._resets[before[0] :])
        if names is None or names:
            self.resets_at.append((end, number, names))

    def _unclear(self) -> bool:
        """Whether the catalog says more of a function in a clearing text than its name does."""
        return bool(
            self.touch & (Touch.FOREVER | Touch.UNNAMED) or self.notifies or self.needs & Need.SEQUENCES
        )

    def verdict(self) -> Verdict:
        """What is known now."""
        defines = self.defines or (self.makes and bool(self.touch & ~Touch.TEMP))
        if not (
            self.touch
            or self.ends
            or self.needs
            or self.notifies
            or self.discards
            or self.rewrites
            or defines
        ):
            return HARMLESS
        names = tuple(dict.fromkeys(self._names)) if self.touch & (Touch.SETTINGS | Touch.LOCAL) else ()
        any_name = self._any_setting or self._any_local
        return Verdict(
            touch=int(self.touch),
            ends=int(self.ends),
            needs=int(self.needs),
            names=None if any_name else names,
            hints=names if any_name else (),
            params=tuple(dict.fromkeys(self.params)),
            resets=None if self._all_resets else tuple(dict.fromkeys(self._resets)),
            resets_at=tuple(self.resets_at),
            listens=tuple(dict.fromkeys(self.listens)),
            notifies=self.notifies,
            prepares=tuple(dict.fromkeys(self.prepares)),
            rewrites=tuple(sorted(self.rewrites)),
            discards=int(self.discards),
            clears=self.clears if not self._unclear() else 0,
            ends_transaction=self.ends_transaction,
            defines=defines,
            plain=self.plain,
            reason=self.reason,
        )
