"""Keeps pytest away from here: these suites take long and need downloads; `make foreign` runs them."""

collect_ignore_glob = ["*"]
