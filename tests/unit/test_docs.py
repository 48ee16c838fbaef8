"""The documentation says what the source says: links, settings, commands, error texts, names of code."""

import re
from functools import cache
from pathlib import Path
from textwrap import dedent

import pytest
import yaml

from pgferry.admin.commands import SHOWS
from pgferry.admin.control import CONTROLS
from pgferry.config.global_settings import Settings
from pgferry.config.load import load
from pgferry.config.settings import DATABASE, GLOBAL, PEER, USER
from pgferry.observe import exporter, own

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "pgferry"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OPERATORS = [page for page in PAGES if page.name not in ("architecture.md", "settings.md")]
# Words with an underscore that are neither settings nor columns: libpq's and PostgreSQL's own, and states.
FOREIGN = {
    "active_cancel",
    "array_nulls",
    "backslash_quote",
    "bytea_output",
    "catalog_failures",
    "extra_float_digits",
    "lc_monetary",
    "quote_all_identifiers",
    "timezone_abbreviations",
    "transform_null_equals",
    "idle_session_timeout",
    "standard_conforming_strings",
    "being_canceled",
    "channel_binding",
    "pg_advisory_xact_lock",
    "statement_cache_size",
    "prepared_statement_cache_size",
    "prepared_statement_name_func",
    "advisory_locks",
    "schema_search_path",
    "statement_cache_capacity",
    "connection_limit",
    "prepare_threshold",
    "server_side_binding",
    "add_listener",
    "search_path",
    "session_authorization",
    "set_config",
    "pg_advisory_lock",
    "pg_try_advisory_lock",
    "pg_advisory_unlock_all",
    "pg_prepared_statements",
    "pg_proc",
    "pg_stat_activity",
    "pg_stat_database",
    "prepare_time",
    "generic_plans",
    "custom_plans",
    "pg_authid",
    "max_connections",
    "statement_timeout",
    "idle_in_transaction_session_timeout",
    "default_transaction_read_only",
    "sd_notify",
    "pg_basebackup",
    "pg_receivewal",
    "pg_recvlogical",
}
# Names and values that the texts leave open.
OPEN = re.compile(r"NAME|TEXT|'HEX'|…|: ")


@cache
def metrics() -> set[str]:
    """The names of all metrics, as a scraper sees them."""
    families = [
        *own.durations({}),
        *own.session_state([], []),
        *own.holders([]),
        *own.close_reasons({}),
        *own.state(False, False, 0, 0),
        *own.processes({}),
        *own.workers([]),
        *exporter.databases([]),
        *exporter.pools([]),
        *exporter.stats({}),
        *exporter.config(Settings()),
    ]
    return {f.name + ("_total" if f.type == "counter" else "") for f in families}


def words(text: str) -> list[str]:
    """What stands between backticks, outside of code blocks."""
    return re.findall(r"`([^`\n]+)`", text)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as code hosts make them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@cache
def source() -> str:
    """All of the source, strings over several lines joined."""
    files = [f for kind in ("py", "pyx", "pxd") for f in SOURCE.rglob(f"*.{kind}")]
    text = "\n".join(f.read_text() for f in files)
    return re.sub(r'"\s*\n\s*f?"', "", text)


@cache
def settings() -> set[str]:
    """Names of settings, and words that are values of one."""
    table = (*GLOBAL, *DATABASE, *USER, *PEER)
    return {setting.name for setting in table} | {word for setting in table for word in setting.kind.choices}


@cache
def columns() -> set[str]:
    return {column.name for show in SHOWS.values() for column in show.columns}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(file), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_lists_mean_the_same_everywhere(page: Path) -> None:
    """The site's Markdown wants 4 blanks for what belongs to a list item, and 8 for code in one."""
    within, blank, wrong = False, False, []
    for line in re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL).splitlines():
        indent = len(line) - len(line.lstrip())
        if line.strip() and indent == 0:
            within = bool(re.match(r"([-*]|\d+\.) ", line)) or (within and not blank)
        elif (within and blank and indent in (1, 2, 3, 5, 6, 7)) or re.match(r" {1,3}([-*]|\d+\.) ", line):
            wrong += [line]
        blank = not line.strip()
    assert wrong == []


def test_the_index_names_every_page() -> None:
    text = (ROOT / "docs" / "index.md").read_text()
    assert [page.name for page in PAGES if page.name not in text and page.name != "index.md"] == []


def test_the_site_names_every_page() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    assert [page.name for page in (ROOT / "docs").glob("*.md") if page.name not in str(nav)] == []


@pytest.mark.parametrize("page", OPERATORS, ids=lambda page: page.name)
def test_names_of_settings_and_columns_exist(page: Path) -> None:
    text = re.sub(r"^    .*$", "", page.read_text(), flags=re.MULTILINE)
    named = {word for word in words(text) if re.fullmatch(r"[a-z]+(_[a-z0-9]+)+", word)}
    errors = {word for word in named if page.name == "troubleshooting.md" and f'"{word}"' in source()}
    assert named - settings() - columns() - metrics() - FOREIGN - errors == set()


def examples() -> list[str]:
    """The configurations on all pages, but those that need files with keys (tests/integration/test_tls_*)."""
    texts = [page.read_text() for page in OPERATORS]
    found = [
        dedent(b) for text in texts for b in re.findall(r"(?:^    .*\n(?:\n(?=    ))?)+", text, re.MULTILINE)
    ]
    return [b for b in found if re.match(r"\[(?!Service|Socket)|[a-z_]+ = ", b) and "_tls_" not in b]


@pytest.mark.parametrize("example", examples(), ids=lambda text: text.splitlines()[-1][:40])
def test_examples_are_configurations(example: str, tmp_path: Path) -> None:
    (tmp_path / "userlist.txt").write_text('"alice" "secret"\n"pgferry_auth" "secret"\n')
    text = example if example.startswith("[") else f"[databases]\npostgres =\n[pgbouncer]\n{example}"
    text = text.replace("= userlist.txt", f"= {tmp_path}/userlist.txt")
    text += "" if "[pgbouncer]" in text else "[pgbouncer]\n"
    (tmp_path / "pgferry.ini").write_text(text)
    config = load(str(tmp_path / "pgferry.ini"))
    assert [w for w in config.warnings if w.setting != "auth_file"] == []


def test_every_metric_of_ours_is_documented() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    assert [
        name for name in sorted(metrics()) if name.startswith("pgferry_") and f"`{name}`" not in text
    ] == []


@pytest.mark.parametrize("page", OPERATORS, ids=lambda page: page.name)
def test_settings_in_examples_exist(page: Path) -> None:
    section, unknown = "", []
    for line in re.findall(r"^    (.*)$", page.read_text(), re.MULTILINE):
        if header := re.fullmatch(r"\[(\w+)\]", line):
            section = header[1]
        elif section == "pgbouncer" and (match := re.match(r"(\w+) =", line)):
            unknown += [match[1]] if match[1] not in settings() else []
    assert unknown == []


@pytest.mark.parametrize("page", OPERATORS, ids=lambda page: page.name)
def test_console_commands_exist(page: Path) -> None:
    text = page.read_text()
    for word in words(text):
        verb, _, rest = word.partition(" ")
        if verb == "SHOW" and rest:
            assert rest.split(" ")[0] in {*SHOWS, "HELP", "FDS"}, word
        elif verb in ("SET", "SELECT"):
            continue  # SQL's, too
        elif re.fullmatch(r"[A-Z_]+( \[?db\]?| id| WAIT_\w+)", word):
            assert verb in CONTROLS, word


def test_every_command_is_described() -> None:
    text = (ROOT / "docs" / "console.md").read_text()
    shown = {word.split(" ")[1] for word in words(text) if word.startswith("SHOW ")}
    assert set(SHOWS) - shown == set()
    verbs = {word.split(" ")[0] for word in words(text)}
    assert set(CONTROLS) - verbs == {"SUSPEND"}


def quoted_errors() -> list[str]:
    """The texts in the first column of the tables of troubleshooting.md, and the nonsense on the wire."""
    found = []
    for line in (ROOT / "docs" / "troubleshooting.md").read_text().splitlines():
        cell = line.split(" | ")[0] if line.startswith("|") else ""
        if line.startswith("`") and "unknown pkt" in line:
            cell = line
        if "libpq" not in cell and "an error of PostgreSQL" not in cell:
            found += words(cell)
    return found


def test_errors_are_found() -> None:
    assert len(quoted_errors()) > 60


@pytest.mark.parametrize("text", quoted_errors())
def test_quoted_errors_exist(text: str) -> None:
    for part in OPEN.split(text):
        assert len(part.strip()) < 4 or part.strip() in source(), part


def test_code_named_by_the_architecture_page_exists() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    names = {*re.findall(r"\b\w+\(?", source()), *re.findall(r"\w+", source())}
    missing = []
    for word in words(text):
        if match := re.fullmatch(r"(?:\w+\.)?(\w+)\(\)", word):
            ok = f"{match[1]}(" in names
        elif re.fullmatch(r"[\w/]+\.(py|pyx|pxd)", word):
            ok = (SOURCE / word).exists() or (ROOT / word).exists() or any(SOURCE.rglob(word))
        elif re.fullmatch(r"(K|F|P|CL|SV|PAUSE)_[A-Z_]+", word):
            ok = re.search(rf"\b{word} = ", source()) is not None
        elif match := re.fullmatch(r"(?:client|server|pool|engine|database|[A-Z]\w+)\.(\w+)", word):
            ok = match[1] in names
        elif re.fullmatch(r"[A-Z]\w*[a-z]\w*", word):
            ok = word in names
        else:
            continue
        missing += [] if ok else [word]
    assert missing == []


def test_the_tables_of_states_and_kinds_are_complete() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    for module, pattern in (
        ("core/enums", r"\b(?:CL|SV|P)_[A-Z_]+(?= = )"),
        ("core/plan", r"\b[KF]_[A-Z_]+(?= = )"),
        ("io/stream", r"\bPAUSE_[A-Z]+(?= = )"),
    ):
        names = set(re.findall(pattern, (SOURCE / "engine" / f"{module}.pxd").read_text()))
        assert names
        assert {name for name in names if f"`{name}`" not in text} == set()


def test_control_messages_are_complete() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    requests = (SOURCE / "worker" / "requests.py").read_text().partition("self._handlers: ")[2]
    handlers = re.findall(r'^            "(\w+)": self\._', requests, re.M)
    served = re.findall(r'op == "(\w+)"', (SOURCE / "supervisor" / "supervisor.py").read_text())
    assert len(handlers) > 10
    assert len(served) > 3
    assert {name for name in {*handlers, *served} if f"`{name}`" not in text} == set()
