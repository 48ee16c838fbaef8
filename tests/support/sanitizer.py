"""Whether the tests run with AddressSanitizer and UBSan (make test-asan), and what cannot be measured then."""

import os

SANITIZER = bool(os.environ.get("PGFERRY_TEST_SANITIZER"))


def fits(used: float, limit: float) -> bool:
    """Whether memory is within a limit. Unknown, so true, with sanitizers: they hold back what was freed
    and pad everything that is held, and the kernel counts that too."""
    return SANITIZER or used < limit
