"""Values that programs give to settings, and the questions that tell what a session holds."""

import random

from support.state_schema import TENANTS

# Everything that any program ever sets: every client asks for all of it.
NAMES = [
    "search_path",
    "statement_timeout",
    "work_mem",
    "TimeZone",
    "DateStyle",
    "application_name",
    "IntervalStyle",
    "extra_float_digits",
    "bytea_output",
    "lock_timeout",
    "default_transaction_isolation",
    "plan_cache_mode",
    "enable_seqscan",
]
CUSTOM = ["app.tenant", "app.x", "app.last", "App.MixedCase"]
STARTING = ["app.start", "app.from_db", "app.from_role"]
_FIXED = {
    "statement_timeout": ["61s", "2min", "0", "100000"],
    "lock_timeout": ["62s", "0", "3min"],
    "work_mem": ["2MB", "3000", "64kB", "1GB"],
    "TimeZone": ["UTC", "Asia/Tokyo", "America/Caracas", "Europe/Athens", "Not/AZone"],
    "DateStyle": ["ISO, MDY", "German", "SQL, DMY", "Postgres"],
    "IntervalStyle": ["iso_8601", "postgres", "sql_standard"],
    "extra_float_digits": ["0", "-3", "1", "3"],
    "bytea_output": ["hex", "escape"],
    "default_transaction_isolation": ["repeatable read", "read committed"],
    "plan_cache_mode": ["auto", "force_custom_plan", "force_generic_plan"],
    "enable_seqscan": ["on", "off", "true"],
}
ADVISORY = "locktype = 'advisory' AND pid = pg_backend_pid()"


class Values:
    """Makes values of settings, with the tag where any text will do."""

    def __init__(self, rng: random.Random, tag: str) -> None:
        self.rng = rng
        self.tag = tag

    def of(self, name: str) -> str:
        if name == "search_path":
            return self.path()
        if name in _FIXED:
            return self.rng.choice(_FIXED[name])
        more = ["", "", " it's", ' "q", x', " a\\b", " é", " two\nlines", "$1 $$ %s ;", "v" * 300]
        if name == "application_name":
            more = ["", "", " it's", " a\\b"]
        return self.tag + self.rng.choice(more)

    def path(self) -> str:
        """Always with a table `things` that everybody may read: what fails when it is parsed is not of interest."""
        tag = f'"{self.tag}"'
        first = self.rng.choice(TENANTS[:3])
        return self.rng.choice(
            [
                first,
                first,
                f"{first}, public",
                f"{first}, {tag}",
                f'"$user", public, {tag}',
                f"{TENANTS[3]}, {first}",
                f"{tag},{first},pg_catalog",
                f"{first}, pg_temp",
            ]
        )


def literal(value: str) -> str:
    """As a constant of SQL that means the same whatever standard_conforming_strings is."""
    quoted = "'" + value.replace("'", "''").replace("\\", "\\\\") + "'"
    return "E" + quoted if "\\" in value else quoted


def question(tag: str, about: str) -> str:
    """A query that shows what the session holds: "all", "settings", "path" or "rest"."""
    plain = [f"current_setting('{n}')" for n in NAMES]
    custom = [f"nullif(current_setting('{n}', true), '')" for n in [*CUSTOM, *STARTING]]
    path = [
        "current_setting('search_path')",
        "(SELECT label || '' FROM things)",
        "(SELECT string_agg(v, ',' ORDER BY v) FROM public.owned)",
        "current_user || ''",
        "session_user || ''",
        "to_char(timestamptz '2024-02-29 12:00:00+00', 'HH24 TZ')",
        "timestamptz '2024-02-29 12:00:00+00'",
        "0.1::float8 + 0.2",
    ]
    rest = [
        "(SELECT count(*) FROM pg_prepared_statements WHERE name <> 'once')",
        "(SELECT string_agg(name || statement, ',' ORDER BY name) FROM pg_prepared_statements WHERE from_sql)",
        f"(SELECT count(*) FROM pg_locks WHERE {ADVISORY})",
        f"(SELECT string_agg(mode || objid || granted, ',' ORDER BY mode, objid) FROM pg_locks WHERE {ADVISORY})",
        "(SELECT string_agg(name || statement, ',' ORDER BY name) FROM pg_cursors WHERE is_holdable)",
        "(SELECT string_agg(c, ',' ORDER BY c) FROM pg_listening_channels() c)",
        "to_regclass('pg_temp.tmp_t') IS NULL",
        "to_regclass('pg_temp.things') IS NULL",
        "(SELECT string_agg(relname || '', ',' ORDER BY relname) FROM pg_class"
        " WHERE relnamespace = pg_my_temp_schema() AND relkind IN ('r', 'v'))",
    ]
    wanted = {"settings": plain + custom, "path": path, "rest": rest, "all": plain + custom + path + rest}[
        about
    ]
    return f"SELECT '{tag}', " + ", ".join(wanted)
