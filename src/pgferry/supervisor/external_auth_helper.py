"""Process `python -m pgferry.supervisor.external_auth_helper`: answers one question at a time.

Questions and answers are frames as on the control channel, on the two pipes that were standard input and output.
Started and, when it takes too long, ended by supervisor.external_auth.
"""

import os
import signal
import sys
from typing import Any

import msgspec

from pgferry.config.rules import LdapOptions


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """Why the user may not log in (`why`, empty: it may), and for how long to hold that back (`delay`)."""
    password: bytes = question["password"]
    if question["method"] == "ldap":
        from pgferry.auth import ldap

        options = msgspec.convert(question["ldap"], LdapOptions)
        try:
            return {"why": ldap.check(options, question["user"].decode(), password.decode()), "delay": 0.0}
        except UnicodeDecodeError:
            return {"why": "name or password is not valid UTF-8", "delay": 0.0}
    from pgferry.auth import pam

    why, delay = pam.check(question["user"], password, question["host"])
    return {"why": why, "delay": delay}


def take_pipes() -> tuple[int, int]:
    """Our two pipes, away from where modules and their children read and write."""
    incoming, outgoing = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    os.close(null)
    return incoming, outgoing


def read_exactly(fd: int, size: int) -> bytes:
    """So many bytes; fewer at the end of the stream."""
    data = b""
    while len(data) < size:
        more = os.read(fd, size - len(data))
        if not more:
            break
        data += more
    return data


def main() -> int:
    """Answer until the supervisor closes the pipe."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    incoming, outgoing = take_pipes()
    while True:
        head = read_exactly(incoming, 4)
        if len(head) < 4:
            return 0
        question = msgspec.msgpack.decode(read_exactly(incoming, int.from_bytes(head, "big")))
        try:
            found = answer(question)
        except Exception as error:  # whatever a library does, the login has to have its answer
            found = {"why": f"{type(error).__name__}: {error}", "delay": 0.0}
        body = msgspec.msgpack.encode(found)
        os.write(outgoing, len(body).to_bytes(4, "big") + body)


if __name__ == "__main__":
    sys.exit(main())
