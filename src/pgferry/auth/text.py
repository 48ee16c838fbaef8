"""Passwords and names as bytes: the one conversion that all methods share."""


def to_bytes(text: str | bytes) -> bytes:
    """Return the bytes of a password or user name.

    Text made from arbitrary bytes by ``decode("utf-8", "surrogateescape")`` (files, startup packets) gives
    those bytes back. Never raises: other surrogates become the bytes that UTF-8 forbids.
    """
    if isinstance(text, bytes):
        return text
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
