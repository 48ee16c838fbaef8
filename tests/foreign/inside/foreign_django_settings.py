"""Settings for Django's own tests: two databases on the server that $FOREIGN_* name."""

import os

_OPTIONS = {"options": os.environ["FOREIGN_OPTIONS"]} if os.environ.get("FOREIGN_OPTIONS") else {}


def _database(name):
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "USER": os.environ["PGUSER"],
        "HOST": os.environ["PGHOST"],
        "PORT": os.environ["PGPORT"],
        "OPTIONS": dict(_OPTIONS),
        "TEST": {"NAME": f"test_{name}"},
    }


DATABASES = {"default": _database("main"), "other": _database("other")}
SECRET_KEY = "django_tests_secret_key"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False
TEST_RUNNER = "django_recorder.Runner"
