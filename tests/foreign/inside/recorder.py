"""A pytest plugin that runs inside a foreign suite: writes each test's result to $FOREIGN_RESULTS at once."""

import json
import os


def pytest_runtest_logreport(report):
    how = report.outcome
    if hasattr(report, "wasxfail"):
        how = "xfailed" if how == "skipped" else "xpassed"
    if report.when != "call":
        if how == "passed":
            return
        how = "error" if how == "failed" else how
    why = "" if how == "passed" else str(report.longrepr)[-1500:]
    with open(os.environ["FOREIGN_RESULTS"], "a") as file:
        file.write(json.dumps([report.nodeid, how, why]) + "\n")
