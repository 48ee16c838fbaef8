"""Whole deployments, as people have them: the same files, logins, queries and admin script on both poolers."""

import time

import pytest

from compat.compare import NAMES_ROW
from compat.conftest import Compare
from compat.known import KNOWN
from compat.twins import DEPLOYMENTS, deployment
from compat.witness import Witness

NAMES = sorted(path.name for path in DEPLOYMENTS.iterdir() if (path / "visits.txt").exists())
# Where the console of a deployment is reached by whom.
ADMINS = {
    "docker": ("app", "app secret"),
    "cloud": ("lookup", "lookup secret"),
    "django": ("web", "web secret"),
    "tenants": ("admin", "admin secret"),
    "hba": ("admin", "admin secret"),
    "legacy": ("app", ""),
}
QUERIES = (
    "SELECT current_user, current_database()",
    "SHOW application_name",
    "SELECT 1/0",
    "SET extra_float_digits = 0",
)


@pytest.mark.parametrize("name", NAMES)
def test_deployment(compare: Compare, name: str) -> None:
    files = deployment(name)
    visits = [line.split("|") for line in files.pop("visits.txt").splitlines()]
    commands = files.pop("admin.sql").splitlines()

    def scenario(witness: Witness) -> None:
        witness.note_log("start: log", "process up")
        let_in = [visit for visit in visits if visit_once(witness, *visit)]
        admin, secret = ADMINS[name]
        with witness.open(admin, "pgbouncer", secret) as console:
            clients = [witness.open(user, database, secret) for user, database, secret in let_in]
            for wire, (user, database, _) in zip(clients, let_in, strict=True):
                witness.ask(wire, f"{user} at {database} asks", *QUERIES)
            time.sleep(
                0.1
            )  # servers come back when pgferry has looked at the catalog behind their transactions
            for command in commands:
                witness.console(console, command, log=command.upper().startswith(("RELOAD", "SET")))
            for wire in clients:
                wire.close()

    compare(f"deployment {name}", files, scenario)


def visit_once(witness: Witness, user: str, database: str, secret: str) -> bool:
    """Log in as this user; whether the client may ask a database something."""
    step = f"{user} at {database} with {secret or 'nothing'}"
    witness.login(step, user, database, secret)
    return database != "pgbouncer" and any(line.startswith("ready") for line in witness.record[step])


def test_every_deployment_is_used() -> None:
    assert set(NAMES) == set(ADMINS)


def test_known_differences_are_documented() -> None:
    text = (DEPLOYMENTS.parents[2] / "docs" / "from-pgbouncer.md").read_text()
    missing = {row for row in [NAMES_ROW, *(entry.row for entry in KNOWN)] if row not in text}
    assert not missing
