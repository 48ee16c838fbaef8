"""What the generators of files in the repository have in common: write the file, or see whether it is right."""

import argparse
import sys
from pathlib import Path


def write_or_check(path: Path, text: str, tool: str) -> int:
    """Write the text, or with --check on the command line return 1 when the file has another one."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true", help="only compare, exit with 1 when out of date")
    if not parser.parse_args().check:
        path.write_text(text)
        return 0
    if path.exists() and path.read_text() == text:
        return 0
    print(f"{path} is out of date: run tools/{tool}", file=sys.stderr)
    return 1
