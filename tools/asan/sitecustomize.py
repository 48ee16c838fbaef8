"""Keeps the sanitizers to Python (see `python` beside this): other programs start without their libraries."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent

os.environ.pop("LD_PRELOAD", None)
# `python` adds this directory for every interpreter anew.
os.environ["PYTHONPATH"] = os.environ.get("PYTHONPATH", "").removeprefix(str(HERE)).removeprefix(":")
sys.executable = str(HERE / "python")
