"""The foreign suites: where each comes from and how it is run. Results are one line a test."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from . import fetch
from .errors import ForeignError
from .results import Outcome, read_lines
from .stage import Stage

INSIDE = Path(__file__).parent / "inside"
PYTEST = ("pytest==8.4.2", "pytest-timeout==2.4.0")
PSYCOPG = ("psycopg[binary]==3.2.13",)
TEST_SECONDS = 60


@dataclass(slots=True)
class Suite:
    """What all suites have: a name, how long a run may take, what the server must have before it."""

    name: ClassVar[str]
    seconds: ClassVar[float] = 1500.0
    databases: ClassVar[Sequence[str]] = ("test",)
    prepare: ClassVar[Mapping[str, str]] = {}
    settings: ClassVar[Mapping[str, str | int]] = {}
    select: Sequence[str] = ()  # tests or files to run instead of all
    origin: str = field(default="", init=False)

    def fetch(self) -> None:
        """Get the source and the environment; sets `origin`."""
        raise NotImplementedError

    def run(self, stage: Stage, log: Path) -> dict[str, Outcome]:
        """Run it on this stage, its output into `log`."""
        raise NotImplementedError


@dataclass(slots=True)
class PythonSuite(Suite):
    """A suite that a command of its own environment runs, with one of our recorders inside."""

    requirements: ClassVar[Sequence[str]]
    package: ClassVar[tuple[str, str, str]]  # name, version, sha256 of the source package
    tree: Path = field(default=Path(), init=False)
    python: Path = field(default=Path(), init=False)

    def fetch(self) -> None:
        self.tree = fetch.sdist(*self.package)
        self.origin = "{} {} (sha256 {})".format(*self.package)
        self.python = fetch.environment(self.name, self.requirements)

    def command(self, stage: Stage) -> list[str]:
        """What to run."""
        raise NotImplementedError

    def environment(self, stage: Stage) -> dict[str, str]:
        """Its environment, without the recorder's variables."""
        return stage.environment("test")

    def folder(self) -> Path:
        """Where to run it."""
        return self.tree

    def run(self, stage: Stage, log: Path) -> dict[str, Outcome]:
        results = log.with_suffix(".tests")
        results.unlink(missing_ok=True)
        env = self.environment(stage) | {
            "FOREIGN_RESULTS": str(results),
            "PYTHONPATH": str(INSIDE),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONFAULTHANDLER": "1",
        }
        run_to_end(self.command(stage), self.folder(), env, log, self.seconds)
        found = read_lines(results)
        if not found:
            raise ForeignError(f"{self.name} ran no test, see {log}:\n{log.read_text()[-3000:]}")
        return found

    def pytest(self, *words: str) -> list[str]:
        """pytest with our recorder; a test that hangs fails after a minute."""
        options = [
            "-p",
            "recorder",
            "-p",
            "no:cacheprovider",
            f"--timeout={TEST_SECONDS}",
            "-q",
            "--tb=native",
        ]
        return [str(self.python), "-m", "pytest", *options, *words]


class Psycopg(PythonSuite):
    """psycopg 3's own tests. Its source package has none, so this needs a checkout: FOREIGN_PSYCOPG=/path."""

    name = "psycopg"
    requirements = (*PYTEST, *PSYCOPG, "psycopg-pool==3.2.7", "anyio", "pproxy", "dnspython", "numpy<3")

    def fetch(self) -> None:
        given = os.environ.get("FOREIGN_PSYCOPG")
        if not given:
            raise ForeignError(
                "no package has psycopg 3's tests: set FOREIGN_PSYCOPG to a checkout of 3.2.13"
            )
        self.tree, self.origin = Path(given), "a checkout"
        self.python = fetch.environment(self.name, self.requirements)

    def command(self, stage: Stage) -> list[str]:
        dsn = f"host={stage.host} port={stage.port} user=postgres dbname=test"
        skip = ["-m", "not slow and not flakey and not mypy and not proxy and not dns", "--impl=binary"]
        return self.pytest("--test-dsn", dsn, *skip, *(self.select or ["tests"]))


class Psycopg2(PythonSuite):
    """psycopg2's own tests: the largest public suite of libpq users besides psycopg 3's."""

    name = "psycopg2"
    package = ("psycopg2", "2.9.11", "964d31caf728e217c697ff77ea69c2ba0865fa41ec20bb00f0977e62fdcc52e3")
    requirements = (*PYTEST, "psycopg2-binary==2.9.11")
    prepare: ClassVar[Mapping[str, str]] = {"test": "CREATE EXTENSION hstore"}

    def environment(self, stage: Stage) -> dict[str, str]:
        return stage.environment("test") | {"PSYCOPG2_TESTDB": "test", "PSYCOPG2_TEST_FAST": "1"}

    def command(self, stage: Stage) -> list[str]:  # noqa: ARG002
        return self.pytest("-c", os.devnull, "--rootdir=.", *(self.select or ["tests"]))


class Asyncpg(PythonSuite):
    """asyncpg's own tests, all but those of its source code's style and of clusters it would start."""

    name = "asyncpg"
    package = ("asyncpg", "0.30.0", "c551e9928ab6707602f44811817f82ba3c446e018bfe1d3abecc8ba5f3eac851")
    requirements = (*PYTEST, "asyncpg==0.30.0", "async_timeout", "distro")
    prepare: ClassVar[Mapping[str, str]] = {"test": "CREATE EXTENSION hstore"}

    def fetch(self) -> None:
        PythonSuite.fetch(self)
        # Beside the tests it would hide the installed, compiled one.
        source = self.tree / "asyncpg"
        if source.exists():
            source.rename(self.tree / "asyncpg-source")

    def command(self, stage: Stage) -> list[str]:  # noqa: ARG002
        ignored = [f"--ignore=tests/test_{n}.py" for n in ("_sourcecode", "_environment")]
        return self.pytest("-c", os.devnull, "--rootdir=.", *ignored, *(self.select or ["tests"]))


class SQLAlchemy(PythonSuite):
    """SQLAlchemy's backend tests and those of its PostgreSQL dialect, with psycopg 3."""

    name = "sqlalchemy"
    driver = "psycopg"
    package = ("sqlalchemy", "2.0.44", "0ae7454e1ab1d780aee69fd2aae7d6b8670a581d8847f2d1e0f7ddfbf47e5a22")
    requirements = (*PYTEST, *PSYCOPG, "asyncpg==0.30.0", "greenlet", "typing_extensions")
    prepare: ClassVar[Mapping[str, str]] = {
        "test": "CREATE SCHEMA test_schema; CREATE SCHEMA test_schema_2; CREATE EXTENSION hstore; "
        "CREATE EXTENSION citext; CREATE EXTENSION btree_gist"
    }
    settings: ClassVar[Mapping[str, str | int]] = {"max_prepared_transactions": 50}

    def command(self, stage: Stage) -> list[str]:
        url = f"postgresql+{self.driver}://postgres@{stage.host}:{stage.port}/test"
        tests = self.select or [
            "test/dialect/postgresql",
            "test/dialect/test_suite.py",
            "test/sql",
            "test/engine",
        ]
        return self.pytest("--backend-only", f"--dburi={url}", "-p", "no:logging", *tests)


class SQLAlchemyAsyncpg(SQLAlchemy):
    """The same with asyncpg."""

    name = "sqlalchemy-asyncpg"
    driver = "asyncpg"


class Django(PythonSuite):
    """Django's own tests that use its PostgreSQL backend most, with psycopg 3."""

    name = "django"
    package = ("django", "5.2.19", "ad03d8abc51dbff95ebf34b27123cf0c26a3b62db7ba0cd520783686362533d1")
    requirements = (*PSYCOPG, "psycopg-pool==3.2.7", "django==5.2.19", "jinja2", "tblib", "sqlparse")
    # With --keepdb they are not made by the run: CREATE DATABASE needs a template nobody is connected to.
    databases = ("main", "other", "test_main", "test_other")
    labels = (
        "backends postgres_tests transactions transaction_hooks atomic db_functions queries schema "
        "migrations migration_test_data_persistence select_for_update bulk_create lookup aggregation annotations "
        "expressions expressions_window constraints get_or_create delete basic introspection inspectdb "
        "indexes model_fields ordering prefetch_related raw_query timezones test_utils multiple_database "
        "connections_settings cache servers db_utils fixtures"
    )

    def folder(self) -> Path:
        return self.tree / "tests"

    def environment(self, stage: Stage) -> dict[str, str]:
        return stage.environment("postgres")

    def command(self, stage: Stage) -> list[str]:  # noqa: ARG002
        known = [w for w in self.labels.split() if (self.tree / "tests" / w).is_dir()]
        words = ["--settings=foreign_django_settings", "--parallel=1", "--noinput", "--keepdb", "-v0"]
        return [str(self.python), "runtests.py", *words, *(self.select or known)]


def run_to_end(
    command: Sequence[str], folder: Path, env: Mapping[str, str], log: Path, seconds: float
) -> None:
    """Run a command, output into `log`; after `seconds` it is killed, and what it recorded so far counts."""
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command, cwd=folder, env=dict(env), stdin=subprocess.DEVNULL, stdout=sink, stderr=sink
        )
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            sink.write(f"\nkilled after {seconds:g} s\n".encode())
        except BaseException:
            process.kill()
            process.wait()
            raise
