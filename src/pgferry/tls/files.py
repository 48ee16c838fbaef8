"""What the TLS settings name: files read by the supervisor, so that no worker opens one."""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from pgferry.config.model import Settings, TlsFiles

KINDS = ("key", "cert", "ca", "crl")


class TlsFault(Exception):
    """TLS cannot be set up as `setting` asks for it."""

    def __init__(self, setting: str, message: str) -> None:
        super().__init__(f"{setting}: {message}")
        self.setting = setting
        self.message = message


def read(settings: Settings, sides: Iterable[str]) -> TlsFiles:
    """Read the files of the sides, `client` and `server`, that are in use. Raises TlsFault."""
    found = {}
    for side in sides:
        for kind in KINDS:
            name = f"{side}_tls_{kind}_file"
            path = getattr(settings, name)
            if path:
                found[f"{side}_{kind}"] = _content(name, path)
    return TlsFiles(**found)


def _content(setting: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise TlsFault(setting, f"cannot read {path}: {error.strerror}") from error


def keep(new: Settings, running: Settings) -> Settings:
    """Return `new` with the TLS settings of `running`."""
    names = [name for name in new.__struct_fields__ if name.startswith(("client_tls", "server_tls"))]
    return msgspec.structs.replace(new, **{name: getattr(running, name) for name in names})
