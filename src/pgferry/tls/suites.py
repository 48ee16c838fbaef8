"""Cipher suites of TLS 1.3: Python's ssl has no call for them before 3.15, OpenSSL always had."""

import ctypes
import ssl
import sys


def set_suites(context: ssl.SSLContext, suites: str) -> None:
    """Allow these suites of TLS 1.3 only, `TLS_AES_256_GCM_SHA384:...`. Raises ValueError."""
    wanted = [name.strip() for name in suites.replace(",", ":").split(":") if name.strip()]
    native = getattr(context, "set_ciphersuites", None)
    try:
        if native is not None:
            native(":".join(wanted))
        elif not _set_in_openssl(context, ":".join(wanted)):
            raise ValueError(f"'{suites}' is no list of TLS 1.3 suites that OpenSSL knows")
    except ssl.SSLError as error:
        raise ValueError(f"'{suites}' is no list of TLS 1.3 suites that OpenSSL knows") from error
    allowed = {c["name"] for c in context.get_ciphers() if c["protocol"] == "TLSv1.3"}
    if allowed != set(wanted):
        raise ValueError("the suites of TLS 1.3 cannot be set with this Python")


def _set_in_openssl(context: ssl.SSLContext, suites: str) -> bool:
    """Call OpenSSL with the SSL_CTX of a context: CPython 3.11 to 3.14 keep it in the object's first field.

    The library is the one that Python's own module is linked with. ValueError where there is no such thing.
    """
    if sys.implementation.name != "cpython" or sys.version_info >= (3, 15):
        raise ValueError("the suites of TLS 1.3 cannot be set with this Python")
    try:
        import _ssl

        library = ctypes.CDLL(_ssl.__file__)
        call = library.SSL_CTX_set_ciphersuites
    except (AttributeError, OSError):
        # Linked into Python, and its names are hidden.
        raise ValueError("the suites of TLS 1.3 cannot be set with this Python") from None
    call.argtypes = (ctypes.c_void_p, ctypes.c_char_p)
    call.restype = ctypes.c_int
    pointer = ctypes.c_void_p.from_address(id(context) + object.__basicsize__).value
    return bool(call(pointer, suites.encode()) == 1)
