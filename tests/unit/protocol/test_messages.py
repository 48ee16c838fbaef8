"""All messages of both sides: built, parsed back, walked by their layouts; garbage is only refused."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgferry.protocol import backend, codec, frontend, startup
from pgferry.protocol.codec import Column, Message
from pgferry.protocol.errors import ProtocolError

# Text as it can come off a wire: any bytes without zero, decoded the way parsers do it.
TEXT = st.binary(max_size=12).map(lambda b: b.replace(b"\0", b"").decode("utf-8", "surrogateescape"))
NAME = TEXT.filter(bool)
INT16 = st.integers(-(2**15), 2**15 - 1)
INT32 = st.integers(-(2**31), 2**31 - 1)
OID = st.integers(0, 2**32 - 1)
VALUE = st.none() | st.binary(max_size=12)
LETTER = st.characters(min_codepoint=0x21, max_codepoint=0x7E)


def tuples(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(items, max_size=5).map(tuple)


BY_CODEC: dict[str, st.SearchStrategy[Any]] = {
    "int8": st.integers(-128, 127),
    "int16": INT16,
    "int32": INT32,
    "oid": OID,
    "bytes4": st.binary(min_size=4, max_size=4),
    "text": TEXT,
    "rest": st.binary(max_size=30),
    "value": VALUE,
    "values": tuples(VALUE),
    "formats": tuples(INT16),
    "oids": tuples(OID),
    "columns": tuples(st.builds(Column, NAME, OID, INT16, INT32, INT16, OID, INT16)),
    "names": tuples(TEXT),
    "fields": tuples(st.tuples(LETTER, TEXT)),
    "list": tuples(NAME),
    "pairs": tuples(st.tuples(NAME, TEXT)),
    "key": st.binary(min_size=4, max_size=256),
    "one of ITE": st.sampled_from("ITE"),
    "one of SP": st.sampled_from("SP"),
}


def instances(kind: type[Message]) -> st.SearchStrategy[Message]:
    return st.builds(kind, *(BY_CODEC[layout.name] for layout in kind.LAYOUT))


BACKEND = tuple(kind for kind in backend.MESSAGES if kind is not backend.AuthenticationOther)
STARTUP = (startup.SSLRequest, startup.GSSENCRequest, startup.CancelRequest)
ALL: list[tuple[type[Message], Callable[[bytes, bytes], Message]]] = [
    *((kind, backend.parse) for kind in BACKEND),
    *((kind, frontend.parse) for kind in frontend.MESSAGES),
    *((kind, lambda _, payload: startup.parse(payload)) for kind in STARTUP),
]


def split(wire: bytes, kind: type[Message]) -> tuple[bytes, bytes]:
    start = len(kind.TYPE)
    assert int.from_bytes(wire[start : start + 4], "big") == len(wire) - start
    return wire[:start], wire[start + 4 :]


def test_no_two_messages_look_alike() -> None:
    for kinds in (BACKEND, frontend.MESSAGES, STARTUP):
        assert len({(kind.TYPE, kind.CODE) for kind in kinds}) == len(kinds)


@pytest.mark.parametrize(("kind", "parse"), ALL)
@settings(max_examples=25)
@given(data=st.data())
def test_built_messages_parse_back(
    kind: type[Message], parse: Callable[[bytes, bytes], Message], data: st.DataObject
) -> None:
    message = data.draw(instances(kind))
    wire = message.build()
    type_byte, payload = split(wire, kind)
    assert type_byte == kind.TYPE
    again = parse(type_byte, payload)
    assert type(again) is kind
    assert again == message
    assert again.build() == wire


@pytest.mark.parametrize(("kind", "parse"), ALL)
@settings(max_examples=25, suppress_health_check=[HealthCheck.filter_too_much])
@given(data=st.data())
def test_cut_and_lengthened_messages_are_refused_or_other_messages(
    kind: type[Message], parse: Callable[[bytes, bytes], Message], data: st.DataObject
) -> None:
    """A payload that parses must be exactly what its message builds: nothing is ignored or made up."""
    payload = data.draw(instances(kind)).payload()
    for other in (
        payload[: data.draw(st.integers(0, len(payload)))],
        payload + data.draw(st.binary(max_size=3)),
    ):
        try:
            message = parse(kind.TYPE, other)
        except ProtocolError:
            continue
        assert message.payload() == other


@settings(max_examples=500)
@given(st.sampled_from([chr(c).encode("latin-1") for c in range(256)]), st.binary(max_size=60))
def test_garbage_raises_only_protocol_errors(type_byte: bytes, payload: bytes) -> None:
    for parse in (backend.parse, frontend.parse):
        try:
            message = parse(type_byte, payload)
        except ProtocolError as error:
            assert error.where
            assert error.offset >= 0
        else:
            assert message.build()[5:] == payload


@given(st.binary(max_size=60), st.sampled_from([b"", b"\0\3\0\0", b"\0\3\0\2", b"\x04\xd2\x16\x2e"]))
def test_garbage_before_the_login(payload: bytes, code: bytes) -> None:
    try:
        message = startup.parse(code + payload)
    except ProtocolError:
        return
    assert message.payload() == code + payload


# Counts and lengths that promise more than there is: nothing may be allocated for them.
@pytest.mark.parametrize(
    ("type_byte", "payload"),
    [
        (b"D", b"\xff\xff"),
        (b"D", b"\0\1\x7f\xff\xff\xff"),
        (b"D", b"\0\1\xff\xff\xff\xfe"),
        (b"D", b"\0\1\x80\0\0\0"),
        (b"T", b"\xff\xffx\0"),
        (b"t", b"\0\2\0\0\0\1"),
        (b"v", b"\0\3\0\0\xff\xff\xff\xff"),
        (b"E", b"S"),
        (b"E", b"SERROR\0"),
        (b"E", b"\x80x\0\0"),
        (b"E", b"\0\0"),
        (b"Z", b""),
        (b"Z", b"X"),
        (b"Z", b"II"),
        (b"K", b"\0\0\0\1"),
        (b"K", b"\0\0\0\1abc"),
        (b"K", b"\0\0\0\1" + b"k" * 257),
        (b"R", b"\0\0\0"),
        (b"R", b"\0\0\0\0x"),
        (b"R", b"\0\0\0\5abc"),
        (b"R", b"\0\0\0\x0aSCRAM-SHA-256\0"),
        (b"?", b""),
        (b"", b""),
    ],
)
def test_malformed_backend_messages(type_byte: bytes, payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        backend.parse(type_byte, payload)


def test_errors_name_message_and_place() -> None:
    with pytest.raises(ProtocolError) as caught:
        frontend.parse(b"B", b"portal\0statement\0\0\1")
    assert (caught.value.where, caught.value.offset) == ("Bind", 19)
    assert "Bind at byte 19" in str(caught.value)


def test_wire_form_of_some_messages() -> None:
    assert backend.AuthenticationOk().build() == b"R\0\0\0\x08\0\0\0\0"
    assert backend.AuthenticationSASL(("A", "B")).build() == b"R\0\0\0\x0d\0\0\0\x0aA\0B\0\0"
    assert backend.ReadyForQuery().build() == b"Z\0\0\0\5I"
    assert backend.BackendKeyData(-1, b"1234").build() == b"K\0\0\0\x0c\xff\xff\xff\xff1234"
    assert backend.DataRow((None, b"")).build() == b"D\0\0\0\x0e\0\2\xff\xff\xff\xff\0\0\0\0"
    assert backend.CommandComplete("SHOW").build() == b"C\0\0\0\x09SHOW\0"
    assert startup.SSLRequest().build() == b"\0\0\0\x08\x04\xd2\x16\x2f"
    assert startup.CancelRequest(1, b"abcd").build() == b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\1abcd"
    assert startup.startup(user="u").build() == b"\0\0\0\x10\0\3\0\0user\0u\0\0"
    assert frontend.Execute().build() == b"E\0\0\0\x09\0\0\0\0\0"
    assert frontend.password(b"md5x").build() == b"p\0\0\0\x09md5x\0"
    assert frontend.Terminate().build() == b"X\0\0\0\4"


def test_unknown_authentication_methods_are_read() -> None:
    message = backend.parse(b"R", b"\0\0\0\7")
    assert message == backend.AuthenticationOther(7)
    assert backend.parse(b"R", b"\0\0\0\x08abc") == backend.AuthenticationOther(8, b"abc")


def test_what_cannot_be_sent_is_a_value_error() -> None:
    for message in (
        frontend.Query("a\0b"),
        frontend.Bind("", "", values=(b"",) * 65536),
        frontend.Execute("", 2**31),
        frontend.Describe("X"),
        frontend.Describe(""),
        backend.BackendKeyData(1, b"abc"),
        backend.BackendKeyData(1, b"x" * 257),
        backend.AuthenticationMD5Password(b"abc"),
        backend.AuthenticationSASL(("",)),
        backend.ErrorResponse((("\0", "x"),)),
        backend.ErrorResponse((("SS", "x"),)),
        startup.startup(**{"": "x"}),
    ):
        with pytest.raises(ValueError, match=r"."):
            message.build()
    with pytest.raises(ValueError, match="zero byte"):
        frontend.password(b"a\0")


def test_counts_up_to_65535() -> None:
    bind = frontend.Bind("", "s", values=(None,) * 65535)
    assert frontend.parse(b"B", bind.payload()) == bind


def test_authentication_answers() -> None:
    assert frontend.password(b"pw").password() == b"pw"
    assert frontend.password(b"").password() == b""
    assert frontend.sasl_initial("M", b"x").sasl_initial() == ("M", b"x")
    assert frontend.sasl_initial("M", None).sasl_initial() == ("M", None)
    for bad in (b"", b"pw", b"p\0w", b"p\0w\0"):
        with pytest.raises(ProtocolError):
            frontend.AuthenticationAnswer(bad).password()
    for bad in (b"", b"M", b"M\0", b"M\0\0\0\0\2x", b"M\0\0\0\0\1xy", b"M\0\xff\xff\xff\xfe"):
        with pytest.raises(ProtocolError):
            frontend.AuthenticationAnswer(bad).sasl_initial()


def test_reports_with_missing_fields() -> None:
    empty = backend.parse(b"E", b"\0")
    assert isinstance(empty, backend.ErrorResponse)
    assert (empty.severity, empty.sqlstate, empty.message) == ("", "", "")
    full = backend.ErrorResponse((("S", "FEHLER"), ("V", "ERROR"), ("C", "42601"), ("M", "m"), ("M", "n")))
    assert (full.severity, full.sqlstate, full.message) == ("ERROR", "42601", "m")


def test_the_first_error_of_an_answer() -> None:
    errors = [backend.ErrorResponse((("M", text),)) for text in ("first", "second")]
    answer = backend.build_all([backend.ParameterStatus("a", "b"), *errors, backend.ReadyForQuery()])
    assert backend.first_error(answer) == errors[0]
    assert backend.first_error(answer[:15]) is None


def test_every_codec_of_the_layouts_has_a_strategy() -> None:
    used = {layout.name for kind in (*BACKEND, *frontend.MESSAGES, *STARTUP) for layout in kind.LAYOUT}
    assert used <= set(BY_CODEC)
    assert codec.MAX_KEY == 256
