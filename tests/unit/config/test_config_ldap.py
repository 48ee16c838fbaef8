"""LDAP options: what is read, what is refused, and that no message repeats a secret."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgferry.config import ConfigError
from pgferry.config.hba import HbaReader
from pgferry.config.kinds import BadValue
from pgferry.config.ldap import parse_ldap
from pgferry.config.rules import LdapOptions
from pgferry.config.show import show_config_rows
from unit.config.config_files import Loader

HIDDEN = "xq7secretqx"
BASE = 'ldapserver=h ldapbasedn="dc=x,dc=y"'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ldapserver=h ldapprefix=cn=", LdapOptions(servers=("h",), prefix="cn=")),
        ('ldapserver="a b", ldapsuffix="@x"', LdapOptions(servers=("a", "b"), suffix="@x")),
        ("ldapserver=h,ldapport=77,ldapprefix=x", LdapOptions(servers=("h",), port=77, prefix="x")),
        (
            f'{BASE} ldapbinddn="cn=m" ldapbindpasswd="a ""b""" ldapsearchattribute=mail ldaptls=1',
            LdapOptions(
                servers=("h",),
                base="dc=x,dc=y",
                bind_dn="cn=m",
                bind_password='a "b"',
                attribute="mail",
                starttls=True,
            ),
        ),
        (
            'ldapurl="ldaps://h:1/dc=x?uid?one?(a=$username)" ldapsearchattribute=""',
            LdapOptions(
                servers=("h",),
                scheme="ldaps",
                port=1,
                base="dc=x",
                attribute="",
                scope="one",
                filter="(a=$username)",
            ),
        ),
        ('"ldapserver=h" "ldapprefix=cn="', LdapOptions(servers=("h",), prefix="cn=")),
        ("ldapurl=ldap://[::1]:5/dc=x", LdapOptions(servers=("[::1]",), port=5, base="dc=x")),
        (f"{BASE} ldapscheme=ldaps # rest", LdapOptions(servers=("h",), base="dc=x,dc=y", scheme="ldaps")),
    ],
)
def test_options(text: str, expected: LdapOptions) -> None:
    found = parse_ldap(text, comments=True)
    assert all(getattr(found, name) == getattr(expected, name) for name in LdapOptions.__struct_fields__)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "ldapserver is missing"),
        ("ldapserver=h", "nothing says who"),
        ("ldapserver=h ldaprefix=x", "unknown LDAP option"),
        ("ldapserver=h ldapport=0 ldapprefix=x", "no port"),
        ("ldapserver=h ldapscheme=http ldapprefix=x", "unknown scheme"),
        ("ldapserver=h ldaptls=yes ldapprefix=x", "no switch"),
        ('ldapserver=" " ldapprefix=x', "list is empty"),
        (f"{BASE} ldapprefix=x", "cannot be mixed"),
        ("ldapserver=h ldapbinddn=x", "ldapbasedn is missing"),
        (f"{BASE} ldapsearchattribute=a ldapsearchfilter=$username", "cannot be used together"),
        (f"{BASE} ldapsearchfilter=(uid=x)", "does not ask for the user"),
        (f"{BASE} ldaptls=1 ldapscheme=ldaps", "one of them is enough"),
        ("ldapurl=http://x", "ldapurl is malformed"),
        ("ldapurl=ldap://h/dc=x?uid?all", "unknown scope"),
        ('ldapserver="h', "malformed"),
        ("rubbish", "malformed"),
        ("=x", "malformed"),
        ('"ldapserver"', "malformed"),
    ],
)
def test_what_is_refused(text: str, words: str) -> None:
    with pytest.raises(BadValue) as caught:
        parse_ldap(text)
    assert words in caught.value.message


def test_in_a_configuration(ini: Loader) -> None:
    pytest.importorskip("bonsai")
    options = f"{BASE} ldapbindpasswd={HIDDEN}"
    config = ini.main("auth_type = ldap", f"auth_ldap_options = {options}")
    assert config.ldap is not None
    assert config.ldap.bind_password == HIDDEN
    assert HIDDEN not in repr(config.ldap)
    assert HIDDEN not in str(show_config_rows(config))
    assert ini.main("auth_type = md5", "auth_ldap_options = rubbish").ldap is None
    with pytest.raises(ConfigError) as caught:
        ini.main("auth_type = ldap", f"auth_ldap_options = {options} {HIDDEN}")
    assert caught.value.problems[0].setting == "auth_ldap_options"
    assert caught.value.problems[0].line == 4
    assert HIDDEN not in str(caught.value)
    with pytest.raises(ConfigError, match="auth_user has no meaning"):
        ini.main("auth_type = pam", "auth_user = x")


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_without_repeating_it(text: str) -> None:
    line = f"host all all all ldap {BASE} ldapbindpasswd={HIDDEN} {text}".replace("\n", " ")
    reader = HbaReader("f", ())
    reader.parse(line)
    assert HIDDEN not in str(reader.problems)
    try:
        parse_ldap(f"{BASE} ldapbindpasswd={HIDDEN} {text}")
    except BadValue as bad:
        assert HIDDEN not in bad.message + bad.expected
