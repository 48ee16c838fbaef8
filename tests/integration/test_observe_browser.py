"""The dashboard in a real Chromium: login, figures, search, commands, keyboard, a phone, light and dark."""

import re
import shutil
import threading
from collections.abc import Callable, Iterator

import psycopg
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from support.pooler import eventually
from support.web import Browser as Api
from support.web import Web

MakeWeb = Callable[..., Web]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
expect.set_options(timeout=15_000)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium"),
    pytest.mark.workers(1),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def web(make_web: MakeWeb) -> Web:
    secrets = {"admin": "swordfish", "stats": "look", "postgres": "postgres"}
    return make_web({"auth_type": "scram-sha-256", "admin_users": "admin"}, userlist=secrets)


@pytest.fixture
def problems() -> list[str]:
    """What the browser complained about."""
    return []


@pytest.fixture
def page(browser: Browser, web: Web, problems: list[str]) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1300, "height": 900}, color_scheme="light")
    yield watched(context.new_page(), web, problems)
    context.close()
    assert problems == []


def watched(page: Page, web: Web, problems: list[str]) -> Page:
    page.set_default_timeout(15_000)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "console",
        lambda m: problems.append(m.text) if m.type == "error" and "status of 4" not in m.text else None,
    )
    page.on("request", lambda r: problems.append(r.url) if f"127.0.0.1:{web.port}" not in r.url else None)
    page.goto(f"http://127.0.0.1:{web.port}/")
    return page


def log_in(page: Page, user: str = "admin", password: str = "swordfish") -> None:
    page.get_by_label("User").fill(user)
    page.get_by_label("Password").fill(password)
    page.keyboard.press("Enter")
    expect(page.locator("#tiles .tile")).to_have_count(6)


def app(web: Web, name: str, **more: object) -> "psycopg.Connection[tuple[object, ...]]":
    return web.pooler.connect(user="postgres", password="postgres", application_name=name, **more)


def test_login_and_logout(page: Page) -> None:
    expect(page.get_by_role("button", name="Log in")).to_be_visible()
    page.get_by_label("User").fill("admin")
    page.get_by_label("Password").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("authentication failed")
    log_in(page)
    expect(page.locator("#who")).to_have_text("admin (admin)")
    expect(page.locator("#state")).to_have_text("active")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("button", name="Log in")).to_be_visible()
    page.reload()
    expect(page.get_by_role("button", name="Log in")).to_be_visible()


def test_figures_and_charts(page: Page, web: Web) -> None:
    with app(web, "shop", autocommit=False) as client:
        client.execute("SELECT 1")
        log_in(page)
        expect(page.locator("#top-holders")).to_contain_text("idle in transaction")
        expect(page.locator("#top-holders")).to_contain_text("shop")
        expect(page.locator(".chart svg path").first).to_be_attached()
        expect(page.locator(".chart svg")).to_have_count(4)
        page.locator("#chart-servers").hover()
        expect(page.locator("#chart-servers + .legend")).to_contain_text("in use 1")
        page.get_by_label("Pool").select_option("postgres/postgres")
        expect(page.locator(".tile").filter(has_text="Servers in use")).to_contain_text("1")


def test_keyboard_and_search(page: Page, web: Web) -> None:
    log_in(page)
    with app(web, "needle") as one, app(web, "straw") as two:
        one.execute("SELECT 1")
        two.execute("SELECT 1")
        page.keyboard.press("4")
        rows = page.locator("#clients tbody tr")
        expect(page.locator("#clients")).to_contain_text("straw")
        page.keyboard.press("/")
        page.keyboard.type("needle")
        expect(rows).to_have_count(1)
        expect(rows).to_contain_text("needle")
        page.keyboard.press("Escape")
        page.keyboard.press("5")
        expect(page.locator("#servers tbody tr").first).to_be_visible()
        page.keyboard.press("?")
        expect(page.get_by_role("dialog")).to_contain_text("Keyboard")
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).not_to_be_visible()
        page.get_by_role("tab", name="Servers").focus()
        page.keyboard.press("ArrowRight")
        expect(page.get_by_role("tab", name="Events")).to_be_focused()


def test_a_section_begins_at_its_top(page: Page, web: Web) -> None:
    page.set_viewport_size({"width": 900, "height": 220})
    log_in(page)
    with app(web, "shop", autocommit=False) as client:
        client.execute("SELECT 1")
        page.keyboard.press("3")
        expect(page.locator("#holding")).to_contain_text("shop")
        page.evaluate("window.scrollTo(0, 100)")
        page.keyboard.press("2")
        expect(page.locator("#pools")).to_contain_text("postgres")
        page.keyboard.press("3")
        expect(page).to_have_url(re.compile("#holding$"))
        assert page.evaluate("window.scrollY") == 0


def test_pause_resume_and_kill(page: Page, web: Web) -> None:
    log_in(page)
    with app(web, "victim") as client:
        client.execute("SELECT 1")
        page.get_by_role("tab", name="Pools").click()
        page.locator("#pools").get_by_role("button", name="Pause").click()
        page.get_by_role("dialog").get_by_role("button", name="Pause").click()
        expect(page.locator("#pools")).to_contain_text("paused")
        waiting = threading.Thread(target=client.execute, args=("SELECT 2",))
        waiting.start()
        expect(page.locator("nav .count")).to_have_text("1")
        page.locator("#pools").get_by_role("button", name="Resume").click()
        page.get_by_role("dialog").get_by_role("button", name="Resume").click()
        waiting.join(10)
        page.get_by_role("tab", name="Clients").click()
        page.locator("#clients tr").filter(has_text="victim").get_by_role("button", name="Kill").click()
        page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
        api = Api(web, "admin", "swordfish")
        assert api.get("/api/clients?q=victim")["found"] == 1
        page.locator("#clients tr").filter(has_text="victim").get_by_role("button", name="Kill").click()
        page.get_by_role("dialog").get_by_role("button", name="Kill").click()
        eventually(lambda: api.get("/api/clients?q=victim")["found"] == 0)
    page.get_by_role("tab", name="Events").click()
    expect(page.locator("#events")).to_contain_text("RESUME postgres")


def test_those_who_may_only_look_see_no_buttons(page: Page, web: Web) -> None:
    with app(web, "shop") as client:
        client.execute("SELECT 1")
        log_in(page, "stats", "look")
        page.get_by_role("tab", name="Pools").click()
        expect(page.locator("#pools")).to_contain_text("postgres")
        expect(page.locator("#pools button")).to_have_count(0)
        expect(page.locator("#global-actions button")).to_have_count(0)


def test_names_are_text_not_markup(page: Page, web: Web) -> None:
    log_in(page)
    with app(web, "<img src=x onerror=alert(1)>", autocommit=False) as client:
        client.execute("SELECT 1")
        page.keyboard.press("3")
        expect(page.locator("#holding")).to_contain_text("<img src=x")
        expect(page.locator("#holding img")).to_have_count(0)


def test_light_and_dark(page: Page) -> None:
    log_in(page)
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.keyboard.press("t")
    dark = page.evaluate(background)
    assert dark != light
    page.reload()
    expect(page.locator("#tiles .tile")).to_have_count(6)
    assert page.evaluate(background) == dark, "the choice is kept"


def test_on_a_phone(browser: Browser, web: Web, problems: list[str]) -> None:
    context = browser.new_context(
        viewport={"width": 375, "height": 740}, color_scheme="dark", is_mobile=True, has_touch=True
    )
    page = watched(context.new_page(), web, problems)
    log_in(page)
    with app(web, "shop", autocommit=False) as client:
        client.execute("SELECT 1")
        for name in ("Overview", "Pools", "Holding", "Clients", "Servers", "Events"):
            page.get_by_role("tab", name=re.compile(f"^{name}")).tap()
            expect(page.locator(f'section[data-tab="{name.lower()}"]')).to_be_visible()
            width = page.evaluate("document.documentElement.scrollWidth")
            assert width <= 375, f"{name} is {width} wide"
    context.close()
    assert problems == []


def test_the_page_comes_back_after_a_restart(page: Page, web: Web, problems: list[str]) -> None:
    log_in(page)
    web.pooler.restart()
    expect(page.get_by_role("button", name="Log in")).to_be_visible(timeout=30_000)
    log_in(page)
    problems[:] = [text for text in problems if "net::ERR_" not in text]
