"""The configuration file that comes with PgBouncer: as it is, and with every setting that it only mentions."""

import re
from pathlib import Path

from compat.conftest import Compare
from compat.twins import INI, original
from compat.witness import Witness

USERS = '"someadmin" "admin secret"\n"user2" ""\n'
# What stands for a default that cannot be written, for another system, for another file.
NO_SETTING = r"(?m)^(?:service_name|(?:client|server)_tls_ca_file|resolv_conf|conffile|auth_hba_file) *=.*\n"
COMMANDS = ("SHOW CONFIG", "SHOW DATABASES", "SHOW USERS", "SHOW LISTS", "SHOW STATE", "RELOAD")


def sample(suite: str) -> str:
    """The file of the package, with its log and pid file in a directory of ours."""
    program, _ = original(suite)
    text = (Path(program).parent / "root/etc/pgbouncer" / INI).read_text()
    return re.sub(r"/var/(log|run)/postgresql/", "/etc/pgbouncer/", text)


def asked(witness: Witness) -> None:
    witness.note_log("start: log", "process up")
    with witness.open("someadmin", "pgbouncer", "admin secret") as console:
        for command in COMMANDS:
            witness.console(console, command, log=command == "RELOAD")


def test_as_it_is(compare: Compare, suite: str) -> None:
    """With the one line that everybody has to add."""
    text = sample(suite).replace(";admin_users = ", "admin_users = ")
    compare("sample", {INI: text, "userlist.txt": USERS}, asked)


def test_every_setting(compare: Compare, suite: str) -> None:
    """All that it mentions in comments, switched on."""
    text = re.sub(r"(?m)^; ?(?=(?:\*|\w+) ?=)", "", sample(suite))
    compare("sample with everything", {INI: re.sub(NO_SETTING, "", text), "userlist.txt": USERS}, asked)
