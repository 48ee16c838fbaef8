"""Makes the pictures of the dashboard in docs/images: a shop whose reports and forgotten transactions hold it up.

Run by hand when the page has changed: PYTHONPATH=src:tests python tools/screenshots.py (needs a Chromium).
"""

from __future__ import annotations

import random
import shutil
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import psycopg
from playwright.sync_api import Browser, Page, sync_playwright

from pgferry.embedded import Cluster
from support.cluster import new_cluster
from support.pooler import Pooler
from support.ports import take_port

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET, BUSY = 100.0, 25.0  # seconds of each
APPLICATIONS = {"web": 14, "api": 10, "mailer": 3}


class Scene:
    """Applications at work, until `over` is set."""

    def __init__(self, cluster: Cluster, http: int) -> None:
        settings: dict[str, object] = {
            "default_pool_size": 8,
            "max_client_conn": 32,
            "http_listen": f"127.0.0.1:{http}",
            "dashboard_trust": 1,  # its users have no password
            "statement_text_length": 80,
            "transaction_log_threshold": 5,
            "server_login_retry": 2,
        }
        entry = f"host=127.0.0.1 port={cluster.port} dbname=postgres"
        self.pooler = Pooler(cluster, settings=settings, databases={"shop": entry, "billing": entry})
        self.over = threading.Event()

    def work(self, name: str) -> None:
        """Short transactions with pauses between them."""
        with self.pooler.connect("shop", application_name=name) as connection:
            while not self.over.is_set():
                connection.execute("SELECT pg_sleep(%s)", (random.lognormvariate(-5.2, 0.8),))
                time.sleep(random.expovariate(40))

    def slow(self) -> None:
        """A report that takes half a minute."""
        with self.pooler.connect("shop", application_name="reports") as connection:
            connection.execute("SELECT customer, sum(total) FROM orders, pg_sleep(40) GROUP BY customer")

    def refused(self) -> None:
        """More clients than there is room for."""
        with ExitStack() as stack, suppress(psycopg.OperationalError):
            for _ in range(40):
                stack.enter_context(self.pooler.connect("shop", application_name="web"))


def log_in(browser: Browser, http: int, *, phone: bool = False) -> Page:
    """A page that shows the overview."""
    size = {"width": 390, "height": 800} if phone else {"width": 1340, "height": 1130}
    context = browser.new_context(
        viewport=size, color_scheme="dark" if phone else "light", device_scale_factor=1.0
    )
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{http}/")
    page.get_by_label("User").fill("admin")
    page.keyboard.press("Enter")
    page.locator("#tiles .tile").first.wait_for()
    return page


def main() -> None:
    """Stage it, look at it three times."""
    with take_port() as http, ExitStack() as stack, sync_playwright() as playwright:
        cluster = new_cluster(15)
        stack.callback(cluster.close)
        cluster.sql(
            "CREATE TABLE orders AS SELECT g % 9 AS customer, g AS total FROM generate_series(1, 99) g"
        )
        scene = Scene(cluster, http)
        scene.pooler.start()
        stack.callback(scene.pooler.stop)
        names = [name for name, count in APPLICATIONS.items() for _ in range(count)]
        workers = [threading.Thread(target=scene.work, args=(name,)) for name in names]
        for worker in workers:
            worker.start()
        time.sleep(QUIET)
        leak = stack.enter_context(
            scene.pooler.connect("shop", application_name="billing-worker", autocommit=False)
        )
        leak.execute("SELECT * FROM orders WHERE customer = 7 FOR UPDATE")
        reports = [threading.Thread(target=scene.slow) for _ in range(4)]
        for report in reports:
            report.start()
        time.sleep(BUSY / 2)
        scene.refused()
        time.sleep(BUSY / 2)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        take(log_in(browser, http), "dashboard")
        holding = log_in(browser, http)
        holding.set_viewport_size({"width": 1340, "height": 560})
        holding.keyboard.press("3")
        take(holding, "holding")
        take(log_in(browser, http, phone=True), "phone")
        browser.close()
        scene.over.set()
        leak.rollback()
        for thread in [*workers, *reports]:
            thread.join()


def take(page: Page, name: str) -> None:
    """One picture."""
    page.mouse.move(0, 0)
    time.sleep(1.5)
    page.screenshot(path=IMAGES / f"{name}.png")


if __name__ == "__main__":
    main()
