"""Drivers as docs/drivers.md sets them up: their caches of prepared statements on, settings of their own, a small pool.

Python's run always. node-postgres, Drizzle, Prisma, pgx and JDBC run with what `make drivers` has fetched: it takes
a network, node, go, java and mvn.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest

from pgferry.embedded import Account, Cluster
from pgferry.embedded.fetch import locked
from support.pooler import Pooler

PROGRAMS = Path(__file__).parent / "drivers"
FETCH = bool(os.environ.get("PGFERRY_FETCH_DRIVERS"))
CLIENTS, ROUNDS = 4, 25
ASK = "SELECT {}::int + 1, current_setting('app.tenant')"
pytestmark = [pytest.mark.workers(1), pytest.mark.pg(15), pytest.mark.timeout(600)]


@pytest.fixture
def pooler(cluster: Cluster, database: str, make_pooler: Callable[..., Pooler]) -> Pooler:
    """A pool of two for four clients."""
    cluster.sql("CREATE TABLE driver_item AS SELECT g AS id FROM generate_series(0, 999) AS g", database)
    cluster.sql("ALTER TABLE driver_item ADD PRIMARY KEY (id)", database)
    entry = f"host=127.0.0.1 port={cluster.port} dbname={database}"
    return make_pooler(settings={"default_pool_size": 2}, databases={"shop": entry})


def prepared(pooler: Pooler) -> tuple[int, int]:
    """How often clients prepared a statement by name, and how often they used one."""
    (row,) = [row for row in pooler.show("STATS") if row["database"] == "shop"]
    return int(row["total_client_parse_count"]), int(row["total_bind_count"])


def kept(pooler: Pooler) -> None:
    """Statements were prepared once and used many times."""
    parses, binds = prepared(pooler)
    assert 0 < parses <= 6 * CLIENTS
    assert binds >= CLIENTS * 10


def all_at_once(client: Callable[[int], None]) -> None:
    """Run it for each client in a thread of its own."""
    wrong: list[BaseException] = []

    def work(i: int) -> None:
        try:
            client(i)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_psycopg(pooler: Pooler) -> None:
    def client(i: int) -> None:
        with psycopg.connect(pooler.conninfo("shop"), autocommit=True) as connection:
            connection.execute("SELECT set_config('app.tenant', %s, false)", (f"tenant {i}",))
            for n in range(ROUNDS):
                row = connection.execute(ASK.format("%s"), (n,)).fetchone()
                assert row == (n + 1, f"tenant {i}")

    all_at_once(client)
    kept(pooler)


def test_asyncpg(pooler: Pooler) -> None:
    async def client(pool: "asyncpg.Pool[Any]", i: int) -> None:
        async with pool.acquire() as connection:
            await connection.execute("SELECT set_config('app.tenant', $1, false)", f"tenant {i}")
            for n in range(ROUNDS):
                assert tuple(await connection.fetchrow(ASK.format("$1"), n)) == (n + 1, f"tenant {i}")

    async def story() -> None:
        async with asyncpg.create_pool(
            host="127.0.0.1",
            port=pooler.port,
            user="postgres",
            database="shop",
            min_size=CLIENTS,
            max_size=CLIENTS,
        ) as pool:
            await asyncio.gather(*(client(pool, i) for i in range(CLIENTS)))

    asyncio.run(story())
    kept(pooler)


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_sqlalchemy(pooler: Pooler, driver: str) -> None:
    """Its engine with its own pool, nothing switched off."""
    sqlalchemy = pytest.importorskip("sqlalchemy")
    url = f"postgresql+{driver}://postgres@127.0.0.1:{pooler.port}/shop"
    ask = sqlalchemy.text("SELECT CAST(:n AS int) + 1, current_setting('app.tenant')")
    tenant = sqlalchemy.text("SELECT set_config('app.tenant', :tenant, false)")

    def work(connection: Any, i: int) -> None:
        connection.execute(tenant, {"tenant": f"tenant {i}"})
        connection.commit()
        for n in range(ROUNDS):
            assert tuple(connection.execute(ask, {"n": n}).one()) == (n + 1, f"tenant {i}")
            connection.commit()

    if driver == "psycopg":
        engine = sqlalchemy.create_engine(url, pool_size=CLIENTS)

        def client(i: int) -> None:
            with engine.connect() as connection:
                work(connection, i)

        all_at_once(client)
        engine.dispose()
    else:
        asyncio.run(_sqlalchemy_async(url, work))
    kept(pooler)


async def _sqlalchemy_async(url: str, work: Callable[[Any, int], None]) -> None:
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(url, pool_size=CLIENTS)

    async def client(i: int) -> None:
        async with engine.connect() as connection:
            await connection.run_sync(work, i)

    await asyncio.gather(*(client(i) for i in range(CLIENTS)))
    await engine.dispose()


DJANGO = """
import sys, django
from django.conf import settings
settings.configure(DATABASES={"default": {
    "ENGINE": "django.db.backends.postgresql", "NAME": "shop", "USER": "postgres", "HOST": "127.0.0.1",
    "PORT": sys.argv[1], "CONN_MAX_AGE": 600, "CONN_HEALTH_CHECKS": True,
    "OPTIONS": {"prepare_threshold": 5, "server_side_binding": True},
}})
django.setup()
from django.db import connection, models, transaction

class Item(models.Model):
    id = models.IntegerField(primary_key=True)
    class Meta:
        app_label, db_table, managed = "shop", "driver_item", False

with connection.cursor() as cursor:
    cursor.execute("SELECT set_config('app.tenant', %s, false)", [sys.argv[2]])
for n in range(25):
    with transaction.atomic():
        assert Item.objects.get(id=n).id == n
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::int + 1, current_setting('app.tenant')", [n])
        assert cursor.fetchone() == (n + 1, sys.argv[2])
with transaction.atomic():
    assert len(list(Item.objects.order_by("id").iterator(chunk_size=100))) == 1000
print("ok")
"""


def test_django(pooler: Pooler) -> None:
    """Persistent connections, server-side binding and cursors, prepared statements."""
    pytest.importorskip("django")

    def client(i: int) -> None:
        run([sys.executable, "-c", DJANGO, str(pooler.port), f"tenant {i}"], PROGRAMS)

    all_at_once(client)
    kept(pooler)


# --- other languages


def run(words: list[str], folder: Path, **environ: str) -> str:
    """Run a program to its end; what it says."""
    done = subprocess.run(
        words, cwd=folder, capture_output=True, text=True, timeout=500, env={**os.environ, **environ}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def prepare(language: str, files: tuple[str, ...], made: str, *steps: list[str], **environ: str) -> Path:
    """A folder of the cache with the programs, and with what they need when that was, or may be, fetched."""
    missing = [words[0] for words in steps if shutil.which(words[0]) is None]
    if missing:
        pytest.skip(f"{missing[0]} is not installed")
    folder = Account.choose().cache_dir() / "drivers" / language
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock"):
        for name in files:
            shutil.copy(PROGRAMS / name, folder / name)
        if not (folder / made).exists():
            if not FETCH:
                pytest.skip("`make drivers` has not fetched it")
            for words in steps:
                run(words, folder, **environ)
    return folder


def node() -> Path:
    return prepare(
        "node",
        ("package.json", "schema.prisma", "story.mjs", "node_postgres.mjs", "drizzle.mjs", "prisma.mjs"),
        "generated/index.js",
        ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"],
        ["npx", "--no-install", "prisma", "generate", "--schema", "schema.prisma"],
        # The client is made without it; it would be fetched for migrations.
        PRISMA_SCHEMA_ENGINE_BINARY=shutil.which("true") or "",
    )


@pytest.mark.parametrize("program", ["node_postgres", "drizzle", "prisma"])
def test_node(pooler: Pooler, program: str) -> None:
    url = f"postgresql://postgres@127.0.0.1:{pooler.port}/shop"
    assert run(["node", f"{program}.mjs", url], node()) == "ok\n"
    if program != "prisma":  # which leaves its statements unnamed
        kept(pooler)


def test_pgx(pooler: Pooler) -> None:
    folder = prepare("go", ("go.mod", "go.sum", "main.go"), "program", ["go", "build", "-o", "program", "."])
    url = f"postgresql://postgres@127.0.0.1:{pooler.port}/shop?sslmode=disable"
    assert run([str(folder / "program"), url], folder) == "ok\n"
    kept(pooler)


def test_jdbc_and_hikari(pooler: Pooler) -> None:
    fetch = ["mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=lib"]
    compile_it = ["javac", "-cp", "lib/*", "-d", ".", "Drivers.java"]
    folder = prepare("java", ("pom.xml", "Drivers.java"), "Drivers.class", fetch, compile_it)
    url = f"jdbc:postgresql://127.0.0.1:{pooler.port}/shop?user=postgres"
    assert run(["java", "-cp", f".{os.pathsep}lib/*", "Drivers", url], folder) == "ok\n"
    kept(pooler)
