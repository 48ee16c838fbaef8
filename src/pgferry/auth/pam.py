"""PAM: is this a user's password for the system's service `pgbouncer`? Blocks; runs in a helper process only.

PAM modules are C libraries that may hang, fork, leak or crash. So they are called, by way of ctypes, where only a
helper process (supervisor.external_auth_helper) can come to harm, which is ended when it takes too long.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

from pgferry.config.access import PAM_LIBRARY

SERVICE: Final = b"pgbouncer"
_SUCCESS: Final = 0
_BUF_ERR: Final = 5
_CONV_ERR: Final = 19
_ECHO_OFF: Final = 1
_ECHO_ON: Final = 2
_RHOST: Final = 4
_FAIL_DELAY: Final = 10
_SILENT: Final = 0x8000
_MAX_MESSAGES: Final = 32


class _Message(ctypes.Structure):
    _fields_ = (("style", ctypes.c_int), ("text", ctypes.c_char_p))


class _Response(ctypes.Structure):
    _fields_ = (("text", ctypes.c_void_p), ("code", ctypes.c_int))


_Messages = ctypes.POINTER(ctypes.POINTER(_Message))
_Responses = ctypes.POINTER(ctypes.POINTER(_Response))
_CONVERSE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, _Messages, _Responses, ctypes.c_void_p)
_DELAY = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p)


class _Conversation(ctypes.Structure):
    _fields_ = (("converse", _CONVERSE), ("data", ctypes.c_void_p))


_pam = ctypes.CDLL(PAM_LIBRARY)
_pam.pam_start.argtypes = (
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.POINTER(_Conversation),
    ctypes.POINTER(ctypes.c_void_p),
)
_pam.pam_set_item.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
_pam.pam_authenticate.argtypes = _pam.pam_acct_mgmt.argtypes = (ctypes.c_void_p, ctypes.c_int)
_pam.pam_end.argtypes = (ctypes.c_void_p, ctypes.c_int)
_pam.pam_strerror.argtypes = (ctypes.c_void_p, ctypes.c_int)
_pam.pam_strerror.restype = ctypes.c_char_p
_libc = ctypes.CDLL(None)
_libc.calloc.argtypes = (ctypes.c_size_t, ctypes.c_size_t)
_libc.calloc.restype = ctypes.c_void_p
_libc.strdup.argtypes = (ctypes.c_char_p,)
_libc.strdup.restype = ctypes.c_void_p


def check(user: bytes, password: bytes, host: str) -> tuple[str, float]:
    """Ask PAM. Returns why the user may not log in (empty: it may), and for how long to hold back that answer.

    The wait of some modules after a wrong password is left to the caller: here it would keep others waiting.
    """
    delays = [0.0]

    def delay(_status: int, microseconds: int, _data: Any) -> None:
        delays.append(microseconds / 1e6)

    delay_hook = _DELAY(delay)
    conversation = _Conversation(_CONVERSE(_answering(password)), None)
    handle = ctypes.c_void_p()
    status = _pam.pam_start(SERVICE, user, ctypes.byref(conversation), ctypes.byref(handle))
    if status != _SUCCESS:
        return f"pam_start: error {status}", 0.0
    try:
        if host:
            _pam.pam_set_item(handle, _RHOST, ctypes.cast(ctypes.c_char_p(host.encode()), ctypes.c_void_p))
        _pam.pam_set_item(handle, _FAIL_DELAY, ctypes.cast(delay_hook, ctypes.c_void_p))
        for step in (_pam.pam_authenticate, _pam.pam_acct_mgmt):
            status = step(handle, _SILENT)
            if status != _SUCCESS:
                text = _pam.pam_strerror(handle, status).decode("utf-8", "replace")
                return f"{step.__name__}: {text}", max(delays)
        return "", 0.0
    finally:
        _pam.pam_end(handle, status)


def _answering(password: bytes) -> Any:
    """The conversation function: the password for what is not echoed, nothing for mere messages."""

    def converse(count: int, messages: Any, responses: Any, _data: Any) -> int:
        if not 0 < count <= _MAX_MESSAGES:
            return _CONV_ERR
        if any(messages[i].contents.style == _ECHO_ON for i in range(count)):
            return _CONV_ERR  # a question that a password is no answer to
        memory = _libc.calloc(count, ctypes.sizeof(_Response))
        if not memory:
            return _BUF_ERR
        answers = ctypes.cast(memory, ctypes.POINTER(_Response))
        for i in range(count):
            if messages[i].contents.style == _ECHO_OFF:
                answers[i].text = _libc.strdup(password)
        responses[0] = answers
        return _SUCCESS

    return converse
