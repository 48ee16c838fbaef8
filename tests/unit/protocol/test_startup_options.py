"""The startup parameter "options": forms, escapes, refusals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgferry.protocol.errors import ProtocolError
from pgferry.protocol.options import build_options, parse_options


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("", []),
        ("  \t ", []),
        ("-c a=b", [("a", "b")]),
        ("-ca=b", [("a", "b")]),
        ("--a=b", [("a", "b")]),
        ("  -c   a=b  --c=d\n-ce=f ", [("a", "b"), ("c", "d"), ("e", "f")]),
        ("-c a=", [("a", "")]),
        ("-c a=b=c", [("a", "b=c")]),
        ("-c a=x\\ y", [("a", "x y")]),
        ("-c a=x\\\\y", [("a", "x\\y")]),
        ("-c a=\\-c", [("a", "-c")]),
        ("-c a=x\\", [("a", "x")]),
        ("--statement-timeout=5s", [("statement_timeout", "5s")]),
        ('-c search_path=\\"a\\",b', [("search_path", '"a",b')]),
        ("-c app.tenant_id=7", [("app.tenant_id", "7")]),
    ],
)
def test_accepted(text: str, settings: list[tuple[str, str]]) -> None:
    assert parse_options(text) == settings


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "-",
        "-d",
        "-c",
        "--",
        "-c a",
        "--a",
        "-c =b",
        "--=b",
        "-C a=b",
        "a=b",
        "-c a=b c",
        "-c a=b -B 5",
        "\\-c a=b",
    ],
)
def test_refused_with_pgbouncers_text(text: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_options(text)
    assert caught.value.message == (
        "unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed"
    )


NAME = st.text("abcXYZ._", min_size=1)
VALUE = st.text(alphabet=st.characters(exclude_characters="\0"))


@given(st.lists(st.tuples(NAME, VALUE), max_size=5))
def test_built_options_parse_back(settings: list[tuple[str, str]]) -> None:
    assert parse_options(build_options(settings)) == settings


@given(st.text() | st.text("-c =\\ab\t"))
def test_garbage_raises_only_protocol_errors(text: str) -> None:
    try:
        parse_options(text)
    except ProtocolError:
        pass
