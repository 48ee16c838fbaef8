"""auth_type = hba: which rule a client meets, peer with ident maps, RELOAD; a changed auth_file is read again."""

import getpass
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from pgferry.embedded import Account, Cluster
from pgferry.embedded.account import remove_tree
from support.clients import refusal
from support.pooler import Pooler, eventually
from support.wire import Wire, startup

Make = Callable[..., Pooler]
SECRET = "of the file"
ME = getpass.getuser()
NO_RULE = "FATAL 08P01 no authentication method is found"
REJECTED = "FATAL 08P01 login rejected"
PEER = "FATAL 08P01 unix socket login rejected"
PASSWORD = "FATAL 08P01 password authentication failed"
USERS = {"postgres": SECRET, "admin": "", "app": SECRET, "stats": "", ME: ""}


@pytest.fixture
def ruled(make_pooler: Make) -> Callable[..., Pooler]:
    def make(hba: str, **settings: Any) -> Pooler:
        return make_pooler(
            hba=f"local pgbouncer admin trust\nhost pgbouncer admin all trust\n{hba}",
            settings={"auth_type": "hba", **settings},
            userlist=USERS,
        )

    return make


def local(pooler: Pooler, user: str, db: str = "postgres", secret: str | None = None) -> str:
    """How a login through the unix socket ends."""
    try:
        with psycopg.connect(
            pooler.conninfo(db, user, host=str(pooler.socket_dir), password=secret or "", connect_timeout=10)
        ) as conn:
            assert conn.execute("SELECT 1").fetchone() == (1,)
    except psycopg.OperationalError as error:
        return str(error).rsplit("FATAL:", 1)[-1].strip()
    return "logged in"


@pytest.mark.usefixtures("cluster")
def test_rules(ruled: Callable[..., Pooler]) -> None:
    pooler = ruled(
        "local  all           all                    scram-sha-256\n"
        "host   all           nobody   all           reject\n"
        "host   all           stats    127.0.0.1/32  trust\n"
        "host   postgres,other app     127.0.0.0 255.0.0.0 password\n"
        "host   sameuser      postgres ::1/128       md5\n"
        "hostssl all          postgres all           trust\n"
    )
    assert refusal(pooler, user="nobody") == REJECTED
    assert refusal(pooler, user="postgres", secret=SECRET) == NO_RULE
    assert refusal(pooler, "other", user="nobody") == REJECTED
    assert refusal(pooler, "third", user="app", secret=SECRET) == NO_RULE
    assert refusal(pooler, user="app", secret="wrong") == PASSWORD
    with Wire((pooler.host, pooler.port)) as wire:
        wire.send(startup("app", "postgres"))
        assert wire.recv().body == b"\0\0\0\3"
    with Wire(("::1", pooler.port)) as wire:
        wire.send(startup("postgres", "postgres"))
        assert wire.recv().body[:4] == b"\0\0\0\5"
    with Wire(("::1", pooler.port)) as wire:
        wire.send(startup("postgres", "other"))
        assert wire.recv().text == "no authentication method is found"
    assert local(pooler, "postgres", secret=SECRET) == "logged in"
    assert local(pooler, "postgres", secret="wrong") == "SASL authentication failed"
    with Wire((pooler.host, pooler.port)) as wire:
        wire.send(startup("stats", "pgbouncer"))
        assert wire.recv().body == b"\0\0\0\0"
    # An unknown user is not known to a rule of trust either.
    pooler.set(userlist={"stats": None})
    assert refusal(pooler, user="stats") == 'FATAL 08P01 "trust" authentication failed'


@pytest.mark.usefixtures("cluster")
def test_peer(ruled: Callable[..., Pooler], request: pytest.FixtureRequest) -> None:
    ident = Account.choose().make_dir("pgferry-ident-") / "ident"
    ident.parent.chmod(0o755)
    ident.write_text(f"mine {ME} postgres\nother somebody postgres\nany {ME} all\n")
    ident.chmod(0o644)
    request.addfinalizer(lambda: remove_tree(ident.parent))
    pooler = ruled(
        "local postgres postgres,app,nobody peer map=mine\n"
        "local other all peer map=other\n"
        "local third all peer map=any\n"
        "local fourth all peer\n"
        "host all all all reject\n",
        auth_ident_file=ident,
    )
    assert local(pooler, "postgres") == "logged in"
    assert local(pooler, "app") == "unix socket login rejected"
    assert local(pooler, "nobody") == "unix socket login rejected"
    assert local(pooler, "postgres", "other") == "unix socket login rejected"
    # The rule lets them in: what is said comes from PostgreSQL.
    assert "does not exist" in local(pooler, "app", "third")
    assert local(pooler, "nobody", "third") == "unix socket login rejected"
    assert local(pooler, "app", "fourth") == "unix socket login rejected"
    assert "does not exist" in local(pooler, ME, "fourth")


@pytest.mark.usefixtures("cluster")
def test_reload_is_all_or_nothing(ruled: Callable[..., Pooler]) -> None:
    pooler = ruled("host all stats all reject\nhost all app all password\n")
    assert refusal(pooler, user="app", secret="wrong") == PASSWORD
    before = pooler.hba_file.read_text()
    pooler.account.write(pooler.hba_file, before.replace("stats all reject", "stats all rejct"))
    with pytest.raises(psycopg.Error, match="RELOAD failed") as caught:
        pooler.reload()
    line = f"{pooler.hba_file}:3: auth_hba_file: unknown method"
    assert line in str(caught.value.diag.message_detail)
    assert line in pooler.log()
    assert refusal(pooler, user="app", secret="wrong") == PASSWORD
    assert refusal(pooler, user="stats") == REJECTED
    pooler.account.write(pooler.hba_file, before.replace("app all password", "app all reject"))
    pooler.reload()
    assert refusal(pooler, user="app", secret=SECRET) == REJECTED
    with pytest.raises(psycopg.Error, match="only be changed in the configuration file"):
        pooler.admin(f"SET auth_hba_file = '{pooler.directory}/gone'")
    assert refusal(pooler, user="app", secret=SECRET) == REJECTED


@pytest.mark.usefixtures("cluster")
@pytest.mark.workers(1)
@pytest.mark.pg(18)
def test_check_and_start_refuse_a_bad_file(ruled: Callable[..., Pooler]) -> None:
    pooler = ruled("host all all all md5\n")
    pooler.account.write(pooler.hba_file, "local all all trust\nhost all all nowhere md5\n")
    result = subprocess.run(
        [sys.executable, "-m", "pgferry", "check", str(pooler.config_file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1, result
    assert f"{pooler.hba_file}:2: auth_hba_file: no IP address" in result.stdout


@pytest.mark.usefixtures("cluster")
def test_rules_with_auth_query(ruled: Callable[..., Pooler], cluster: Cluster) -> None:
    """A rejected client costs no query; the name that the query returns has to be let in, too."""
    cluster.sql(
        "DO $$ BEGIN CREATE ROLE hba_other LOGIN PASSWORD 'x'; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
    )
    pooler = ruled(
        "host all hba_other 127.0.0.1/32 reject\nhost all all all password\n",
        auth_user="postgres",
        auth_query="SELECT CASE WHEN $1 = 'alias' THEN 'hba_other' ELSE $1::text END, 'plain'",
    )
    assert refusal(pooler, user="alias", secret="plain") == REJECTED
    assert refusal(pooler, user="hba_other", secret="plain") == REJECTED
    with psycopg.connect(pooler.conninfo(user="hba_other", password="plain", host="::1")) as conn:
        assert conn.execute("SELECT current_user").fetchone() == ("hba_other",)


# --- auth_file


@pytest.mark.usefixtures("cluster")
def test_auth_file_is_read_again_when_it_changes(make_pooler: Make) -> None:
    pooler = make_pooler(settings={"auth_type": "md5"}, userlist={"postgres": "one", "admin": ""})
    assert refusal(pooler, secret="one") == "logged in"
    pooler.set(userlist={"postgres": "two"}, reload=False)  # of the same size, maybe in the same second
    eventually(lambda: refusal(pooler, secret="two") == "logged in")
    assert refusal(pooler, secret="one") == PASSWORD
    pooler.wait_log("has changed, users are read again")
    pooler.account.write(pooler.auth_file, '"postgres" "three"\n"broken\n"late" "x"\n')
    eventually(lambda: refusal(pooler, secret="three") == "logged in")
    pooler.wait_log("broken auth file")
    pooler.auth_file.unlink()
    assert refusal(pooler, secret="three") == "logged in"
    pooler.account.write(pooler.auth_file, '"postgres" "four"\n')
    eventually(lambda: refusal(pooler, secret="four") == "logged in")
    assert "four" not in pooler.log()
