"""HBA and ident files: what is read, what is refused and where, and which rule a login meets."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgferry.auth.hba import Login, find_rule, may_be, packed_address
from pgferry.config import ConfigError, with_overrides
from pgferry.config.hba import HbaReader
from pgferry.config.ident import parse_ident
from pgferry.config.rules import HbaRule
from unit.config.config_files import MINIMAL, Loader


def read(text: str, maps: tuple[str, ...] = ("m",)) -> tuple[HbaRule, ...]:
    reader = HbaReader("/etc/hba", maps)
    rules = reader.parse(text)
    assert not reader.problems, reader.problems
    return rules


def problem(text: str) -> str:
    reader = HbaReader("/etc/hba", ("m",))
    reader.parse(text)
    (found,) = reader.problems
    assert found.setting == "auth_hba_file"
    return str(found)


def method(text: str, database: str, user: str, host: str = "", **more: bool) -> str | None:
    login = Login(database, user, packed_address(host) if host else b"", **more)
    rule = find_rule(read(text), login)
    return rule.method if rule is not None else None


@pytest.mark.parametrize(
    ("line", "database", "user", "host", "fits"),
    [
        ("local all all trust", "d", "u", "", True),
        ("local all all trust", "d", "u", "127.0.0.1", False),
        ("host all all all trust", "d", "u", "", False),
        ("host all all all trust", "d", "u", "::1", True),
        ("host all all 127.0.0.1/32 trust", "d", "u", "127.0.0.1", True),
        ("host all all 127.0.0.1/32 trust", "d", "u", "127.0.0.2", False),
        ("host all all 127.0.0.1/32 trust", "d", "u", "::ffff:127.0.0.1", True),
        ("host all all 10.1.0.0/16 trust", "d", "u", "10.1.255.1", True),
        ("host all all 10.1.0.0 255.255.0.0 trust", "d", "u", "10.1.255.1", True),
        ("host all all 10.1.0.0 255.255.0.0 trust", "d", "u", "10.2.0.1", False),
        ("host all all 0.0.0.0/0 trust", "d", "u", "1.2.3.4", True),
        ("host all all 0.0.0.0/0 trust", "d", "u", "::1", False),
        ("host all all 0.0.0.0 0.0.0.0 trust", "d", "u", "1.2.3.4", True),
        ("host all all ::/0 trust", "d", "u", "1.2.3.4", False),
        ("host all all fe80::/10 trust", "d", "u", "fe80::1", True),
        ("host all all fe80:: ffc0:: trust", "d", "u", "fe80::1", True),
        ("host all all ::1/128 trust", "d", "u", "::1", True),
        ("local a,b u trust", "b", "u", "", True),
        ("local a , b u trust", "b", "u", "", True),
        ("local a, b u trust", "c", "u", "", False),
        ('local "all" all trust', "d", "u", "", False),
        ('local "all" all trust', "all", "u", "", True),
        ('local "my ""db""" all trust', 'my "db"', "u", "", True),
        ('local "a b" "c,d" trust', "a b", "c,d", "", True),
        ("local sameuser all trust", "u", "u", "", True),
        ("local sameuser all trust", "d", "u", "", False),
        ("local all sameuser trust", "u", "u", "", False),
        ('local "sameuser" all trust', "u", "u", "", False),
        ("local replication all trust", "replication", "u", "", False),
        ('local "replication" all trust', "replication", "u", "", True),
        ("local all replication trust", "d", "replication", "", False),
        ("local\tall\tall\ttrust\t# comment", "d", "u", "", True),
        ('local all "#x" trust', "d", "#x", "", True),
        ("hostnossl all all all trust", "d", "u", "1.1.1.1", True),
        ("hostssl all all all trust", "d", "u", "1.1.1.1", False),
    ],
)
def test_what_a_line_means(line: str, database: str, user: str, host: str, fits: bool) -> None:
    assert (method(line, database, user, host) == "trust") is fits


def test_tls_and_replication() -> None:
    assert method("hostssl all all all md5", "d", "u", "1.1.1.1", tls=True) == "md5"
    assert method("hostnossl all all all md5", "d", "u", "1.1.1.1", tls=True) is None
    assert method("local replication all md5", "u", "u", physical=True) == "md5"
    assert method("local all,sameuser,u all md5", "u", "u", physical=True) is None


def test_the_first_rule_that_fits_counts() -> None:
    text = "local d bad reject\n\n# nobody else\nlocal d all md5\nlocal all all trust"
    assert method(text, "d", "bad") == "reject"
    assert method(text, "d", "good") == "md5"
    assert method(text, "e", "bad") == "trust"
    assert method("local d all md5", "e", "u") is None


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("lokal all all trust", "unknown connection type.*did you mean local"),
        ('"local" all all trust', "unknown connection type"),
        ("hostgssenc all all all trust", "hostgssenc is not supported"),
        ("local", "ends early"),
        ("local all all", "method is missing"),
        ("host all all trust", "no IP address"),
        ("host all all", "address is missing"),
        ("host all all 1.2.3.4 trust", "neither /bits nor a mask"),
        ("host all all 1.2.3.4 ::1 trust", "does not fit"),
        ("host all all 1.2.3.4 255.0.255.0 trust", "does not fit"),
        ("host all all 1.2.3.4/33 trust", "bits"),
        ("host all all 1.2.3.4/ trust", "bits"),
        ("host all all 1.2.3.4/-1 trust", "bits"),
        ("host all all 1.2.3.4/8x trust", "bits"),
        ("host all all 1.2.3.4/٣ trust", "bits"),
        ("host all all example.org trust", "host names"),
        ("host all all samenet trust", "samenet is not supported"),
        ("host all all 1.2.3.4/32", "method is missing"),
        ("local all all rejct", "unknown method.*did you mean reject"),
        ("local all all REJECT", "unknown method.*did you mean reject"),
        ("local all all ident", "ident is not supported"),
        ("local all all any", "unknown method"),
        ("local samerole all trust", "group"),
        ("local all +admins trust", "group"),
        ("local /x all trust", "regular expressions"),
        ("local all all trust map=m", "map means nothing to trust"),
        ("local all all peer map=other", "there is no map 'other'"),
        ("local all all peer mop=m", "unknown option"),
        ("host all all all peer", "unix sockets only"),
        ("local all all cert", "TLS only"),
        ('local all "u trust', "not closed"),
        (", all all trust", "without a name before"),
        ("local all u,", "without a name behind"),
        ("local all @missing trust", "cannot read /etc/missing: No such file"),
        ("local all u\0 trust", "zero byte"),
    ],
)
def test_lines_that_are_refused(line: str, words: str) -> None:
    text = problem("local all all trust\n" + line + "\n# end\n")
    assert text.startswith("/etc/hba:2: ")
    assert re.search(words, text), text


def test_every_bad_line_is_told_and_none_is_skipped() -> None:
    reader = HbaReader("f", ())
    reader.parse("local all all rejct\nhost all all nowhere md5\nlocal all all trust\n")
    assert [found.line for found in reader.problems] == [1, 2]


def test_bits_outside_the_mask_warn() -> None:
    reader = HbaReader("f", ())
    (rule,) = reader.parse("host all all 10.1.2.3/8 md5")
    assert rule.network == b"\x0a\0\0\0"
    assert "10.0.0.0" in str(reader.warnings[0])


def test_files_of_names(tmp_path: Path) -> None:
    (tmp_path / "users").write_text('a, b\n"all" # c\n@more\n')
    (tmp_path / "more").write_text("d\n")
    hba = tmp_path / "hba"
    hba.write_text('local all @users,e trust\nlocal all "@users" md5\n')
    reader = HbaReader(str(hba), ())
    rules = reader.load()
    assert not reader.problems
    for user, expected in zip("abdexc", ("trust",) * 4 + (None, None), strict=True):
        rule = find_rule(rules, Login("d", user, b""))
        assert (rule and rule.method) == expected
    all_rule = find_rule(rules, Login("d", "all", b""))
    at_rule = find_rule(rules, Login("d", "@users", b""))
    assert all_rule is not None
    assert at_rule is not None
    assert (all_rule.method, at_rule.method) == ("trust", "md5")
    (tmp_path / "more").write_text("@users\n")
    reader = HbaReader(str(hba), ())
    reader.load()
    assert "nested" in str(reader.problems[0])
    (tmp_path / "more").write_text('ok\n"open\n')
    reader = HbaReader(str(hba), ())
    reader.load()
    assert str(reader.problems[0]).startswith(f"{tmp_path}/more:2: ")


def test_unreadable_files(tmp_path: Path) -> None:
    for content, words in ((None, "No such file"), (b"ok\n\xff\n", "UTF-8")):
        path = tmp_path / "hba"
        if content is not None:
            path.write_bytes(content)
        reader = HbaReader(str(path), ())
        assert reader.load() == ()
        assert words in str(reader.problems[0])


# --- ident maps


def test_ident_maps() -> None:
    maps, problems = parse_ident(
        '# comment\nm root postgres\nm "odd name" all\nn /^(.*)@example\\.org$ \\1\nm bob "all"\n', "f"
    )
    assert not problems
    assert may_be(maps["m"], "root", "postgres")
    assert not may_be(maps["m"], "root", "other")
    assert may_be(maps["m"], "odd name", "anybody")
    assert not may_be(maps["m"], "bob", "anybody")
    assert may_be(maps["m"], "bob", "all")
    assert may_be(maps["n"], "ann@example.org", "ann")
    assert not may_be(maps["n"], "ann@example.org", "bob")
    assert not may_be(maps["n"], "ann@example_org", "ann")
    assert not may_be((), "root", "root")
    assert may_be(None, "root", "root")
    assert not may_be(None, "root", "postgres")


@pytest.mark.parametrize(
    "line", ["m", "m a", "m a b c", "m a,b c", "m /( x", "m /x \\1", 'm a ""', 'm "a b', "m a b\0"]
)
def test_bad_ident_lines(line: str) -> None:
    maps, problems = parse_ident("ok a b\n" + line, "f")
    assert list(maps) == ["ok"]
    assert [found.line for found in problems] == [2]


# --- in a configuration


def test_in_a_configuration(ini: Loader, tmp_path: Path) -> None:
    hba, ident = tmp_path / "hba", tmp_path / "ident"
    hba.write_text("local all all peer map=m\n")
    ident.write_text("m root all\n")
    config = ini.main("auth_type = hba", f"auth_hba_file = {hba}", f"auth_ident_file = {ident}")
    assert [rule.method for rule in config.hba] == ["peer"]
    assert list(config.ident) == ["m"]
    copy = msgspec.convert(msgspec.msgpack.decode(msgspec.msgpack.encode(config)), type(config))
    assert copy.hba == config.hba
    hba.write_text("local all all peer map=other\n")
    found = ini.problem(
        MINIMAL + f"auth_type = hba\nauth_hba_file = {hba}\nauth_ident_file = {ident}\n[databases]\n"
    )
    assert (found.file, found.line) == (str(hba), 1)
    with pytest.raises(ConfigError, match="other"):
        with_overrides(config, {"auth_ident_file": ""})
    found = ini.problem(MINIMAL + "auth_type = hba\n")
    assert (found.setting, found.line) == ("auth_type", 3)
    # Without auth_type = hba nobody looks into the files.
    plain = ini.main("auth_type = md5", "auth_hba_file = /nowhere")
    assert plain.hba == ()
    hba.write_text("local all all md5\n")
    changed = with_overrides(plain, {"auth_hba_file": str(hba)})
    assert changed.hba == ()
    assert with_overrides(changed, {"auth_type": "hba"}).hba[0].method == "md5"


# --- anything


_WORDS = st.sampled_from(
    [
        *(
            "local",
            "host",
            "hostssl",
            "all",
            "sameuser",
            "trust",
            "md5",
            "reject",
            "peer",
            "map=m",
            "@",
            ",",
            "#",
        ),
        *("1.2.3.4/8", "1.2.3.4", "255.0.0.0", "::1/128", "/", "+x", "name", '"', "ldap", "ldapserver=x"),
    ]
)


@given(st.lists(st.one_of(_WORDS, st.text(max_size=6)), max_size=10), st.sampled_from(["", " ", "\t"]))
def test_any_text_is_read_or_refused(words: list[str], between: str) -> None:
    text = between.join(words)
    reader = HbaReader("/nowhere/hba", ("m",))
    for rule in reader.parse(text):
        find_rule([rule], Login("d", "u", b"\1\2\3\4"))
    parse_ident(text, "f")


@given(st.ip_addresses(), st.ip_addresses(), st.integers(0, 128))
def test_networks_are_what_ipaddress_says(network: object, host: object, bits: int) -> None:
    width = ipaddress.ip_address(str(network)).max_prefixlen
    bits = min(bits, width)
    expected = ipaddress.ip_network(f"{network}/{bits}", strict=False)
    address = ipaddress.ip_address(str(host))
    login = Login("d", "u", address.packed)
    for form in (f"{network}/{bits}", f"{network} {expected.netmask}"):
        reader = HbaReader("f", ())
        rules = reader.parse(f"host all all {form} md5")
        assert len(rules) == 1, reader.problems
        assert (find_rule(rules, login) is not None) == (address in expected)


@given(st.text(st.characters(blacklist_characters="\n\r\0", codec="utf-8"), min_size=1, max_size=30))
def test_any_name_can_be_quoted(name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    rules = read(f"local {quoted} {quoted} md5")
    assert find_rule(rules, Login(name, name, b"")) is not None
    assert find_rule(rules, Login(name + "x", name, b"")) is None
