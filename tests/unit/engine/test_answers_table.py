"""The table of answers: every message of PostgreSQL's has its place, once, and behind what asks for it."""

from collections import Counter

from pgferry.engine.core.plan import Kind
from pgferry.engine.server.dispatch import ANSWERS, ASKED, Answer

# PostgreSQL's documentation, "Message Formats": those that a backend sends once a session has begun.
BACKEND = b"23CdcGHWDIEVnAtS1NsTZ"
# What ends the answer to each kind of message; "Message Flow" in the same place.
ENDINGS = {
    Kind.K_QUERY: b"Z",
    Kind.K_SYNC: b"Z",
    Kind.K_PARSE: b"1",
    Kind.K_BIND: b"2",
    Kind.K_DESCRIBE_S: b"Tn",
    Kind.K_DESCRIBE_P: b"Tn",
    Kind.K_EXECUTE: b"CIs",
    Kind.K_CLOSE: b"3",
    Kind.K_COPY_END: b"",
}
ENDS = {Answer.ENDS, Answer.DESCRIBES, Answer.COMPLETES, Answer.READY}


def pairs() -> list[tuple[int, int, Answer]]:
    """(message type, kind of entry, what becomes of it), one by one."""
    return [
        (letter, kind, Answer(answer))
        for types, kinds, answer in ANSWERS
        for letter in types
        for kind in kinds
    ]


def test_every_message_has_a_place() -> None:
    assert {letter for letter, _, _ in pairs()} == set(BACKEND)
    assert set(ASKED) == set(Kind)


def test_no_pair_has_two() -> None:
    counts = Counter((letter, kind) for letter, kind, _ in pairs())
    assert not [pair for pair, count in counts.items() if count > 1]


def test_what_ends_an_answer() -> None:
    for kind, endings in ENDINGS.items():
        found = {letter for letter, each, answer in pairs() if each == kind and answer in ENDS}
        # CommandComplete is in the middle of the answer to a Query.
        assert found == set(endings) | ({ord("C")} if kind == Kind.K_QUERY else set()), kind


def test_what_may_come_at_any_time() -> None:
    for letter in b"ESNA":
        assert {kind for each, kind, _ in pairs() if each == letter} == {0, *Kind}
    assert {letter for letter, kind, _ in pairs() if kind == 0} == set(b"ESNAZ")


def test_every_answer_is_used() -> None:
    assert {answer for _, _, answer in pairs()} == set(Answer) - {Answer.OUT_OF_STEP}
