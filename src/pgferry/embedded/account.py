"""Who runs the private servers: the caller, or an unprivileged account when the caller is root."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pgferry.embedded.errors import EmbeddedError

# For root: an account that owns nothing else. Who gets into the private server could become its account, and
# `postgres` is let in by the machine's own cluster.
OWN_ACCOUNT = "pgferry-demo"
CANDIDATES = (OWN_ACCOUNT, "nobody")
_USERADD = (
    "useradd",
    "--system",
    "--no-create-home",
    "--home-dir",
    "/nonexistent",
    "--shell",
    "/usr/sbin/nologin",
)


@dataclass(frozen=True, slots=True)
class Account:
    """An account that may run PostgreSQL, which refuses uid 0 (src/backend/main: check_root)."""

    name: str
    uid: int
    gid: int
    home: str
    switched: bool  # True when it is not the caller's own account, so that every child has to change to it

    @classmethod
    def choose(cls) -> "Account":
        """The caller's own account; for root `pgferry-demo`, which is made when there is none, or else `nobody`.

        Raises EmbeddedError when root has neither.
        """
        if os.geteuid() != 0:
            return cls.caller()
        _make_own_account()
        for name in CANDIDATES:
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            return cls(name, entry.pw_uid, entry.pw_gid, entry.pw_dir, True)
        raise EmbeddedError(
            f"PostgreSQL does not run as root, and no account {' or '.join(CANDIDATES)} exists to run it: "
            f"make one ({' '.join((*_USERADD, OWN_ACCOUNT))})."
        )

    @classmethod
    def caller(cls) -> "Account":
        """The caller's own account, root too."""
        uid = os.geteuid()
        return cls(_own_name(uid), uid, os.getegid(), os.environ.get("HOME", ""), False)

    def environment(self) -> dict[str, str]:
        """The caller's environment for a child, without preloaded libraries and PG* settings."""
        kept = {
            k: v for k, v in os.environ.items() if not k.startswith(("PG", "LD_PRELOAD", "ASAN_", "UBSAN_"))
        }
        return kept | {"LC_ALL": "C", "HOME": self.home or "/", "USER": self.name, "LOGNAME": self.name}

    def popen(
        self,
        argv: Sequence[str],
        *,
        cwd: Path | str = "/",
        env: dict[str, str] | None = None,
        stdin: int | None = subprocess.DEVNULL,
        stdout: int | None = subprocess.DEVNULL,
        stderr: int | None = subprocess.STDOUT,
    ) -> "subprocess.Popen[bytes]":
        """Start argv as this account in a session of its own, so that a terminal's Ctrl-C passes it by."""
        return subprocess.Popen(
            argv,
            cwd=cwd,
            env=self.environment() if env is None else env,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            user=self.uid if self.switched else None,
            group=self.gid if self.switched else None,
            extra_groups=[] if self.switched else None,
        )

    def run(self, argv: Sequence[str], *, cwd: Path | str = "/", timeout: float = 120.0) -> tuple[int, str]:
        """Run argv to its end as this account; its exit status and what it printed. Timeout in seconds."""
        try:
            process = self.popen(argv, cwd=cwd, stdout=subprocess.PIPE)
        except OSError as e:
            return 127, f"{argv[0]}: {e.strerror}"
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
            return 124, output.decode(errors="replace") + f"\nno end after {timeout:g} s"
        return process.returncode, output.decode(errors="replace")

    def can_run(self, argv: Sequence[str]) -> bool:
        """Whether argv ends with status 0 as this account: the only sure test of a path's permissions."""
        return self.run(argv, timeout=30.0)[0] == 0

    def own(self, path: Path) -> None:
        """Give path (not what is in it) to this account."""
        if self.switched:
            os.chown(path, self.uid, self.gid)

    def write(self, path: Path, text: str, mode: int = 0o600) -> None:
        """Write a file that belongs to this account."""
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
        self.own(path)

    def make_dir(self, prefix: str) -> Path:
        """A new temporary directory (0700) of this account whose path is short enough for a unix socket.

        Raises EmbeddedError when no temporary directory can be entered by the account.
        """
        for base in dict.fromkeys((tempfile.gettempdir(), "/tmp", "/var/tmp")):
            if len(base) > 60 or not self._can_enter(Path(base)):
                continue
            try:
                path = Path(tempfile.mkdtemp(prefix=prefix, dir=base))
            except OSError:
                continue
            self.own(path)
            return path
        raise EmbeddedError(f"No temporary directory that {self.name} can use was found; set TMPDIR to one.")

    def cache_dir(self) -> Path:
        """Where fetched servers and templates are kept between runs; readable for the account.

        Root's is /var/cache/pgferry, because nobody else can enter root's home.
        """
        wanted = [Path("/var/cache/pgferry")] if self.switched else []
        if not self.switched:
            if xdg := os.environ.get("XDG_CACHE_HOME"):
                wanted.append(Path(xdg) / "pgferry")
            if self.home:
                wanted.append(Path(self.home) / ".cache" / "pgferry")
        wanted.append(Path(tempfile.gettempdir()) / f"pgferry-cache-{os.geteuid()}")
        for path in wanted:
            try:
                path.mkdir(parents=True, exist_ok=True)
            except OSError:
                continue
            if path.stat().st_uid == os.geteuid() and os.access(path, os.W_OK) and self._can_enter(path):
                return path
        raise EmbeddedError("No cache directory can be written: tried " + ", ".join(map(str, wanted)) + ".")

    def _can_enter(self, path: Path) -> bool:
        """Whether this account may pass through every directory of path."""
        if not self.switched:
            return os.access(path, os.X_OK)
        for part in (path.resolve(), *path.resolve().parents):
            info = part.stat()
            bit = 0o100 if info.st_uid == self.uid else 0o010 if info.st_gid == self.gid else 0o001
            if not info.st_mode & bit:
                return False
        return True


def _make_own_account() -> None:
    """Make `pgferry-demo` where that can be done; several processes may want it at the same time."""
    for _ in range(50):
        try:
            pwd.getpwnam(OWN_ACCOUNT)
        except KeyError:
            if shutil.which(_USERADD[0]) is None:
                return
            subprocess.run([*_USERADD, OWN_ACCOUNT], capture_output=True, check=False)
            time.sleep(0.1)  # it fails, too, while another one changes the file of accounts
        else:
            return


def remove_tree(path: Path) -> None:
    """Remove a directory of ours; what a still dying process adds meanwhile is no error."""
    shutil.rmtree(path, ignore_errors=True)


def _own_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)  # a container's arbitrary uid has no entry; PostgreSQL's initdb needs one and says so
