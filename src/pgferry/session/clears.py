"""clears(): what is certain to be gone from a session after a text that does nothing but clear.

Pools of applications send such texts each time a connection is given back: DISCARD ALL, or RESET ALL with UNLISTEN *
and CLOSE ALL. After these PostgreSQL need not be asked what the session holds.
"""

from pgferry.session.lexer import QUOTED, STRINGS, Tokens

SETTINGS = 1  # all but role and session_authorization
ROLE = 2
AUTHORIZATION = 4  # and with it the role
LISTEN = 8
PREPARED = 16
NAMED = 32  # the settings of Verdict.resets
OTHER = 64  # what a client without pins has none of: temporary objects, locks, cursors, plans, sequences

# Each statement in its words, and what is gone then.
_TEXTS = {
    b"discard all": SETTINGS | ROLE | AUTHORIZATION | LISTEN | PREPARED,
    b"discard temp": OTHER,
    b"discard temporary": OTHER,
    b"discard plans": OTHER,
    b"discard sequences": OTHER,
    b"reset all": SETTINGS,
    b"reset role": ROLE,
    b"set role none": ROLE,
    b"reset session authorization": AUTHORIZATION,
    b"set session authorization default": AUTHORIZATION,
    b"unlisten *": LISTEN,
    b"deallocate all": PREPARED,
    b"deallocate prepare all": PREPARED,
    b"close all": OTHER,
    b"select pg_advisory_unlock_all ( )": OTHER,
    b"select pg_catalog . pg_advisory_unlock_all ( )": OTHER,
}
_LONGEST = max(len(text.split()) for text in _TEXTS)
# RESET of these is not the end of it: they belong to a transaction, or cannot be set back.
_NOT_NAMED = frozenset(
    b"transaction transaction_isolation transaction_read_only transaction_deferrable seed is_superuser all role"
    b" session session_authorization server_version".split()
)


def clears(tokens: Tokens) -> int:
    """The bits above of one statement; 0 if it does, or may do, anything else."""
    length = len(tokens)
    if QUOTED in tokens.kinds or not STRINGS.isdisjoint(tokens.kinds):
        return 0
    words = tokens.words[:length]
    if length <= _LONGEST:
        bits = _TEXTS.get(b" ".join(words), 0)
        if bits:
            return bits
    if words[0] == b"reset" and length >= 2 and words[1] not in _NOT_NAMED:
        return NAMED
    return 0
