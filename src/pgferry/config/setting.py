"""The description of one setting: the row type of the settings tables."""

from __future__ import annotations

from dataclasses import dataclass

from pgferry.config.kinds import Kind, Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting, described once; parsing, checking, SHOW CONFIG, SET and docs/settings.md follow from it.

    default: text as in a file, None when unset. unit: for operators, e.g. "s", "ms", "bytes", or empty.
    reload: taken over by RELOAD and SET; otherwise only at process start. text: one sentence for operators.
    pending: why the setting has no effect yet (empty: it has); other values than the default are refused.
    pending_values: keywords of an enum that are refused in the same way, for the reason in pending_reason.
    notice: a warning given when the setting is set to something else than its default (accepted on purpose).
    null_value: the value in force when default is None. field: attribute in the model if not `name`.
    file_only: the console's SET is refused, because what the setting names would be opened or run by pgferry's account,
    or decides whose secrets are believed: who may use the console is not for that reason the account's owner.
    inherit_below: a number below this means "as in the next outer level" and is stored as None.
    """

    name: str
    default: str | None
    kind: Kind
    text: str
    unit: str = ""
    group: str = ""
    reload: bool = True
    file_only: bool = False
    pending: str = ""
    pending_values: tuple[str, ...] = ()
    pending_reason: str = ""
    notice: str = ""
    null_value: Value = None
    field: str = ""
    inherit_below: int | None = None
    aliases: tuple[str, ...] = ()
    own: bool = False

    @property
    def effective(self) -> bool:
        """Whether the setting does something in this version."""
        return not self.pending

    @property
    def attribute(self) -> str:
        """Name of the attribute that holds the value in the configuration structs."""
        return self.field or self.name

    def default_value(self) -> Value:
        """Return the value in force when nothing is set."""
        return self.null_value if self.default is None else self.kind.parse(self.default)

    def refusal(self, value: Value) -> str:
        """Return why `value` cannot be used in this version, or an empty string when it can."""
        reason = ""
        if self.pending and value != self.default_value():
            reason = self.pending
        elif value in self.pending_values:
            reason = self.pending_reason
        if not reason:
            return ""
        shown = f"{self.name} = {value}" if value in self.pending_values else self.name
        return f"setting {shown} has no effect in this version of pgferry yet: {reason}"
