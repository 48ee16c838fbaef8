"""What the TLS settings name: files read by the supervisor, so that no worker opens one."""

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import msgspec

KINDS = ("key", "cert", "ca", "crl")


class TlsFault(Exception):
    """TLS cannot be set up as `setting` asks for it."""

    def __init__(self, setting: str, message: str) -> None:
        super().__init__(f"{setting}: {message}")
        self.setting = setting
        self.message = message


class TlsSettings(Protocol):
    """The settings client_tls_... and server_tls_...; those that both sides have are looked up by name."""

    @property
    def client_tls_sslmode(self) -> str: ...

    @property
    def client_tls_dheparams(self) -> str: ...

    @property
    def client_tls_ecdhcurve(self) -> str: ...


class TlsFiles(msgspec.Struct, frozen=True, kw_only=True):
    """The contents of the files that the TLS settings name (PEM); empty for those that are not used."""

    client_key: bytes = b""
    client_cert: bytes = b""
    client_ca: bytes = b""
    client_crl: bytes = b""
    server_key: bytes = b""
    server_cert: bytes = b""
    server_ca: bytes = b""
    server_crl: bytes = b""

    def __repr__(self) -> str:
        given = [name for name in self.__struct_fields__ if getattr(self, name)]
        return f"TlsFiles({', '.join(given)})"


def read(settings: TlsSettings, sides: Iterable[str]) -> TlsFiles:
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
