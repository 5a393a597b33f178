"""Fixtures: Chromium, pages that are watched, and a whole server with documents to ask (`make test-ui`)."""

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from rag_server.api.page import UI_FOLDER
from rag_server.protocols import Embedder
from tests.live import live_server
from tests.ui.documents import HANDBOOK
from tests.ui.looking import Pictures
from tests.ui.site import Site
from tests.ui.watching import Watch

# Debian's browser asks for nothing by itself, and finds no other machine.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
# A busy machine is slow; what is awaited is seen as soon as it is there.
PATIENCE_MS = 30_000
DESKTOP = {"width": 1280, "height": 800}

OpenPage = Callable[..., Page]
NewSite = Callable[..., AbstractContextManager[Site]]
# What takes how long (each try, in ms), and how long it may take.
HoldTo = Callable[[str, Sequence[float], float], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", action="store_true", help="write the pictures of docs/images/ui")
    parser.addoption("--timed", action="store_true", help="fail where the page takes longer than it may")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, once for all tests."""
    program = shutil.which("chromium")
    missing = "Chromium is not installed (Debian: apt-get install chromium)" if program is None else _not_built()
    if missing is not None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(missing)
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield launched
        launched.close()


def _not_built() -> str | None:
    return None if (UI_FOLDER / "index.html").is_file() else "the page is not built: run `make ui`"


@pytest.fixture
def watch() -> Iterator[Watch]:
    """What the pages of a test do that they must not; at the end of the test there is nothing of it."""
    watching = Watch()
    yield watching

    assert watching.unexpected() == []


@pytest.fixture
def open_page(browser: Browser, watch: Watch) -> Iterator[OpenPage]:
    """Open a page of a server in a profile of its own: `open_page(url)`; options are those of Playwright's contexts."""
    with contextlib.ExitStack() as opened:

        def call(url: str, **options: Any) -> Page:
            context = browser.new_context(base_url=url, **{"viewport": DESKTOP, "reduced_motion": "reduce", **options})
            opened.callback(context.close)
            context.set_default_timeout(PATIENCE_MS)
            watch.observe(context, url)
            page = context.new_page()
            page.goto("/")
            return page

        yield call


@pytest.fixture
def page(open_page: OpenPage, server: Site) -> Page:
    """The page of the server with the handbook, as on a desktop."""
    opened = open_page(server.url)
    expect(opened.get_by_role("button", name="Collections: handbook")).to_be_visible()
    return opened


@pytest.fixture(scope="session")
def new_site(embedder: Embedder, tmp_path_factory: pytest.TempPathFactory) -> NewSite:
    """Start a server: `with new_site() as site`; keyword arguments are settings, and those of `live_server`."""

    @contextlib.contextmanager
    def start(**options: Any) -> Iterator[Site]:
        with live_server(tmp_path_factory.mktemp("site") / "data", embedder, **options) as live:
            site = Site(live)
            site.wait_until_ready()
            yield site

    return start


@pytest.fixture(scope="module")
def handbook(new_site: NewSite) -> Iterator[Site]:
    """A server with the collection `handbook`, shared by the tests of a module: they change nothing of it."""
    with new_site() as site:
        site.collection("handbook", HANDBOOK)
        yield site


@pytest.fixture
def server(handbook: Site) -> Site:
    """The server with the handbook; its engine behaves as it does by itself."""
    handbook.engine()
    return handbook


@pytest.fixture
def pictures(pytestconfig: pytest.Config) -> Pictures:
    """Takes the pictures of the documentation, if they are asked for."""
    folder = Path(__file__).parent.parent.parent / "docs" / "images" / "ui"
    return Pictures(folder if pytestconfig.getoption("--screenshots") else None)


@pytest.fixture
def hold_to(pytestconfig: pytest.Config) -> HoldTo:
    """Print times in ms, and with --timed (`make bench-ui`) fail if the least of them is over the limit.

    A test fails for what is wrong, and not for what else the machine does.
    """

    def hold(what: str, times_ms: Sequence[float], limit_ms: float) -> None:
        sys.stdout.write(f"{what} in ms: {[round(time_ms) for time_ms in times_ms]} (at most {limit_ms:g})\n")
        if pytestconfig.getoption("--timed"):
            assert min(times_ms) <= limit_ms

    return hold
