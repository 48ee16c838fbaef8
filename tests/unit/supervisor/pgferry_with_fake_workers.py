"""The command `pgferry` with the fake worker in the place of the real one; takes the same arguments."""

import os
import sys
from pathlib import Path

from pgferry.supervisor import boot, fleet, reload

fleet.SILENT_SECONDS, fleet._PING_SECONDS = 1.0, 0.2
reload._SECONDS = float(os.environ.get("FAKE_RELOAD_SECONDS", reload._SECONDS))
fleet.WORKER_COMMAND[:] = [sys.executable, str(Path(__file__).with_name("fake_worker.py"))]


class FakeLedger:
    """Counts of nothing: a descriptor to hand over, and a note of each cleared worker."""

    def __init__(self, workers: int) -> None:
        self.fd = os.memfd_create(f"fake-ledger-{workers}", os.MFD_CLOEXEC)

    def clear_worker(self, worker: int) -> None:
        os.pwrite(self.fd, bytes([worker + 1]), 0)


boot.SharedLedger = FakeLedger  # type: ignore[assignment,misc]

if __name__ == "__main__":
    from pgferry.cli.main import main

    main()
