"""Django's test runner, writing each test's result to $FOREIGN_RESULTS at once."""

import faulthandler
import json
import os
import signal
import unittest

from django.test.runner import DiscoverRunner

SECONDS = 60  # for one test


class Result(unittest.TextTestResult):
    def startTest(self, test):
        signal.signal(signal.SIGALRM, _too_long)
        signal.alarm(SECONDS)
        super().startTest(test)

    def stopTest(self, test):
        signal.alarm(0)
        super().stopTest(test)

    def addSuccess(self, test):
        super().addSuccess(test)
        _record(test, "passed")

    def addFailure(self, test, err):
        super().addFailure(test, err)
        _record(test, "failed", self.failures[-1][1])

    def addError(self, test, err):
        super().addError(test, err)
        _record(test, "error", self.errors[-1][1])

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        _record(test, "skipped", reason)

    def addExpectedFailure(self, test, err):
        super().addExpectedFailure(test, err)
        _record(test, "xfailed")

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        _record(test, "xpassed")

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            _record(test, "failed", str(err[1]))


class Runner(DiscoverRunner):
    def get_resultclass(self):
        return Result


def _record(test, how, why=""):
    with open(os.environ["FOREIGN_RESULTS"], "a") as file:
        file.write(json.dumps([test.id(), how, why[-1500:]]) + "\n")


def _too_long(*_):
    faulthandler.dump_traceback()
    raise TimeoutError(f"not ready after {SECONDS} s")
