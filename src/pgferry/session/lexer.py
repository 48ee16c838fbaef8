"""PostgreSQL's lexical rules: a statement's text cut into tokens, exactly as the server cuts it.

The one thing a text does not tell is standard_conforming_strings: where a backslash in front of a quote would end a
string under one setting and not under the other, the tokens are marked `ambiguous` and the caller reads both ways.
"""

import re

IDENT = 1  # a word, folded to lower case
QUOTED = 2  # "an identifier"
PLAIN = 3  # 'a string'
ESCAPED = 4  # E'a string'
UNICODE = 5  # U&'a string'
DOLLAR = 6  # $$a string$$
BITS = 7  # B'01', X'0f'
NUMBER = 8
PARAM = 9  # $1
CHAR = 10  # one character of an operator, or punctuation
END = 11  # behind the last token

STRINGS = frozenset((PLAIN, ESCAPED, UNICODE, DOLLAR))
NAMES = frozenset((IDENT, QUOTED))
NAME_LENGTH = 63  # NAMEDATALEN - 1
_PADDING = 4  # tokens of kind END, so that looking ahead needs no check

_SKIP = rb"(?:[ \t\n\r\f\v]++|--[^\n\r]*+)*+"
_STANDARD = rb"'[^']*+(?:''[^']*+)*+'"
_BACKSLASH = rb"'[^'\\]*+(?:(?:''|\\.)[^'\\]*+)*+'"
_IDENTIFIER = rb'"[^"]*+(?:""[^"]*+)*+"'
# (Where a possessive group could fail half-way it is not possessive: Python before 3.11.5 goes on in the wrong place.)
# What matched is told by the number of the group: the order here is that of _WORD, _STRING, ... below.
_REST = (
    rb"([A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*+)"
    rb"|(%b)|(" + _IDENTIFIER + rb")"
    rb"|((?:[0-9]++(?:\.(?!\.)[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?)"
    rb"|(\$[0-9]++)"
    rb"|(\$(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*+)?+\$)"
    rb"|(/\*)"
    rb"|(.)"
)
_WORD, _STRING, _NAME, _NUMBER, _PARAM, _DOLLAR, _COMMENT, _CHAR = range(1, 9)


def _token_pattern(string: bytes) -> re.Pattern[bytes]:
    return re.compile(_SKIP + rb"(?:" + _REST.replace(b"%b", string) + rb")", re.DOTALL)


_TOKEN = {True: _token_pattern(_STANDARD), False: _token_pattern(_BACKSLASH)}
_STRING_BODY = {
    True: re.compile(_STANDARD, re.DOTALL),
    False: re.compile(_BACKSLASH, re.DOTALL),
}
_QUOTED_BODY = re.compile(_IDENTIFIER)
# A string goes on behind white space with a newline in it, by the rules of its beginning.
_CONTINUED = re.compile(
    rb"(?:[ \t\f\v]++|--[^\n\r]*+)*+[\n\r](?:[ \t\n\r\f\v]++|--[^\n\r]*+[\n\r])*(?=')", re.DOTALL
)
_COMMENT_EDGE = re.compile(rb"/\*|\*/")
_SPACE_OR_DASH = frozenset(b" \t\n\r\f\v-")
_QUOTES = frozenset(b"'\"&")
_HIGH_BACKSLASH = re.compile(rb"[\x80-\xff]\\")
_ESCAPE = re.compile(
    rb"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))", re.DOTALL
)
_LETTERS = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}


class Tokens:
    """The tokens of one text, as parallel lists.

    `words` has what keywords and punctuation are compared with: a word in lower case, one character of punctuation,
    b"" for everything else. `names` has the names that words and quoted identifiers stand for, b"" for the rest.
    """

    __slots__ = (
        "ambiguous",
        "doubtful",
        "ends",
        "kinds",
        "names",
        "quoted",
        "repeatable",
        "starts",
        "text",
        "words",
    )

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.kinds: list[int] = []
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.words: list[bytes] = []
        self.names: list[bytes] = []
        self.quoted: list[int] = []  # where the quoted identifiers are
        self.ambiguous = False  # reads differently with the other standard_conforming_strings
        self.repeatable = (
            text.isascii() and b"\\" not in text
        )  # means the same whatever the encoding and settings
        self.doubtful = False  # no text that PostgreSQL would accept, or in an encoding that misleads

    def __len__(self) -> int:
        return len(self.kinds) - _PADDING

    def add(self, kind: int, start: int, end: int, word: bytes = b"", name: bytes = b"") -> None:
        self.kinds.append(kind)
        self.starts.append(start)
        self.ends.append(end)
        self.words.append(word)
        self.names.append(name)

    def raw(self, index: int) -> bytes:
        """The token as it stands in the text."""
        return self.text[self.starts[index] : self.ends[index]]

    def string(self, index: int) -> bytes | None:
        """The value of a string; None where the text alone does not tell it, or where it is no string."""
        kind, raw = self.kinds[index], self.raw(index)
        if kind == DOLLAR:
            tag = raw.index(b"$", 1) + 1
            return raw[tag:-tag]
        if kind == PLAIN:
            body = _one_piece(raw)
            return None if body is None or b"\\" in body else body
        if kind == ESCAPED:
            body = _one_piece(raw[1:])
            return None if body is None else _unescape(body)
        return None


def lex(text: bytes, standard: bool = True) -> Tokens:
    """Cut a text into tokens; `standard` is the setting standard_conforming_strings."""
    tokens = Tokens(text)
    match = _TOKEN[standard].match
    add = tokens.add
    position = 0
    unicode: list[int] = []
    while (m := match(text, position)) is not None:
        group = m.lastindex or 0
        start, position = m.span(group)
        if group == _WORD:
            word = text[start:position].lower()
            if position - start == 1 and text[position : position + 1] in (b"'", b"&"):
                after = _prefixed(tokens, word, start, position, standard, unicode)
                if after:
                    position = after
                    continue
            if position - start > NAME_LENGTH:
                word = truncate(word)
            add(IDENT, start, position, word, word)
        elif group == _CHAR:
            char = m[_CHAR]
            if char in b"'\"$\0":
                tokens.doubtful = True
                tokens.ambiguous = tokens.ambiguous or b"\\'" in text
            add(CHAR, start, position, char)
        elif group == _STRING:
            if not standard or b"\\'" in m[_STRING]:
                tokens.ambiguous = True
            position = _continue(tokens, position, standard, standard)
            add(PLAIN, start, position)
        elif group == _NAME:
            tokens.quoted.append(len(tokens.kinds))
            add(QUOTED, start, position, b"", truncate(m[_NAME][1:-1].replace(b'""', b'"')))
        elif group == _DOLLAR:
            end = text.find(m[_DOLLAR], position)
            if end < 0:
                tokens.doubtful = True
                break
            position = end + len(m[_DOLLAR])
            add(DOLLAR, start, position)
        elif group == _COMMENT:
            position = _comment_end(text, position)
            if position < 0:
                tokens.doubtful = True
                break
        else:
            add(NUMBER if group == _NUMBER else PARAM, start, position)
    for _ in range(_PADDING):
        add(END, len(text), len(text))
    if unicode:
        _resolve(tokens, unicode)
    return tokens


def truncate(name: bytes) -> bytes:
    """A name as PostgreSQL keeps it: cut to 63 bytes, and not within a character (of UTF-8)."""
    if len(name) <= NAME_LENGTH:
        return name
    end = NAME_LENGTH
    while end > NAME_LENGTH - 4 and 0x80 <= name[end] < 0xC0:
        end -= 1
    return name[: NAME_LENGTH if 0x80 <= name[end] < 0xC0 else end]


def _prefixed(
    tokens: Tokens, word: bytes, start: int, position: int, standard: bool, unicode: list[int]
) -> int:
    """The string or identifier that begins with a letter: E'', B'', X'', U&'', U&"". Its end; 0: none is here."""
    text = tokens.text
    if word == b"u" and text[position : position + 1] == b"&":
        quote = text[position + 1 : position + 2]
        if quote not in (b"'", b'"'):
            return 0
        body = (_QUOTED_BODY if quote == b'"' else _STRING_BODY[True]).match(text, position + 1)
        if body is None:
            tokens.doubtful = True
            return len(text)
        end = body.end()
        if quote == b"'":
            end = _continue(tokens, end, True, standard)
        unicode.append(len(tokens.kinds))
        tokens.add(UNICODE if quote == b"'" else QUOTED, start, end)
        return end
    if word not in (b"e", b"b", b"x") or text[position : position + 1] != b"'":
        return 0
    body = _STRING_BODY[word != b"e"].match(text, position)
    if body is None:
        tokens.doubtful = True
        return len(text)
    end = _continue(tokens, body.end(), word != b"e", standard)
    if word == b"e" and _HIGH_BACKSLASH.search(text, start, end) and not _is_utf8(text):
        tokens.doubtful = True  # the backslash may be the second byte of a character
    tokens.add(ESCAPED if word == b"e" else BITS, start, end)
    return end


def _continue(tokens: Tokens, end: int, standard: bool, setting: bool) -> int:
    """The end of a string whose first piece ends at `end`; its further pieces are read as its first."""
    text = tokens.text
    while end < len(text) and text[end] in _SPACE_OR_DASH:
        gap = _CONTINUED.match(text, end)
        if gap is None:
            break
        piece = _STRING_BODY[standard].match(text, gap.end())
        if piece is None:
            tokens.doubtful = True
            return len(text)
        if standard and setting and b"\\'" in piece[0]:
            tokens.ambiguous = True
        end = piece.end()
    return end


def _comment_end(text: bytes, position: int) -> int:
    """Where a comment that began before `position` ends, with those nested in it; -1: it does not."""
    depth = 1
    while depth:
        edge = _COMMENT_EDGE.search(text, position)
        if edge is None:
            return -1
        depth += 1 if edge[0] == b"/*" else -1
        position = edge.end()
    return position


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _one_piece(raw: bytes) -> bytes | None:
    """What stands between the quotes of a string; None: it is written in several pieces."""
    body = _STRING_BODY[True].fullmatch(raw) or _STRING_BODY[False].fullmatch(raw)
    return None if body is None else raw[1:-1].replace(b"''", b"'")


def _unescape(body: bytes) -> bytes | None:
    """The value of an E'' string; None: PostgreSQL would not accept it."""
    valid = True

    def one(m: re.Match[bytes]) -> bytes:
        nonlocal valid
        octal, hexadecimal, short, long, char = m.groups()
        if char is not None:
            valid = valid and char not in b"xuU"
            return _LETTERS.get(char, char)
        if short or long:
            return _encode(int(short or long, 16))
        return bytes([(int(octal, 8) if octal else int(hexadecimal, 16)) & 255])

    value = _ESCAPE.sub(one, body)
    return value if valid else None


def _encode(code: int) -> bytes:
    """A character by its code, with what is no character of its own (half a pair) as a question mark."""
    return chr(code).encode("utf-8", "replace") if code < 0x110000 else b"?"


def _resolve(tokens: Tokens, unicode: list[int]) -> None:
    """Give U& identifiers their names; a UESCAPE clause becomes part of the token in front of it."""
    dropped: list[int] = []
    for index in unicode:
        escape = b"\\"
        if tokens.words[index + 1] == b"uescape":
            value = tokens.string(index + 2)
            if value is None or len(value) != 1:
                tokens.doubtful = True
                return
            escape = value
            tokens.ends[index] = tokens.ends[index + 2]
            dropped += [index + 1, index + 2]
        if tokens.kinds[index] == QUOTED:
            name = _unicode_name(tokens.raw(index), escape)
            if name is None:
                tokens.doubtful = True
                return
            tokens.names[index] = name
            tokens.quoted.append(index)
    for index in reversed(dropped):
        for items in (tokens.kinds, tokens.starts, tokens.ends):
            del items[index]
        for texts in (tokens.words, tokens.names):
            del texts[index]
    tokens.quoted = [index for index, kind in enumerate(tokens.kinds) if kind == QUOTED]


def _unicode_name(raw: bytes, escape: bytes) -> bytes | None:
    """The name that U&"..." stands for; None: PostgreSQL would not accept it."""
    body = raw[3 : raw.rindex(b'"')].replace(b'""', b'"')
    mark = re.escape(escape)
    pattern = re.compile(mark + rb"(?:([0-9A-Fa-f]{4})|\+([0-9A-Fa-f]{6})|(" + mark + rb")|(.?))", re.DOTALL)
    valid = True

    def one(m: re.Match[bytes]) -> bytes:
        nonlocal valid
        short, long, itself, other = m.groups()
        if itself:
            return escape
        if other is not None:
            valid = False
            return b""
        return _encode(int(short or long, 16))

    name = pattern.sub(one, body)
    return truncate(name) if valid else None
