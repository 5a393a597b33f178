"""Signing in with an API key: what it opens, what it keeps apart, and where it is kept."""

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.ui.chatting import ask, composer, conversations, text_of
from tests.ui.conftest import NewSite, OpenPage
from tests.ui.documents import HANDBOOK
from tests.ui.looking import Pictures
from tests.ui.site import Site
from tests.ui.watching import Watch

FERRY_QUESTION = "When does the ferry to Utsira leave?"
EVERYTHING_KEPT = """async () => {
  const kept = { localStorage: { ...localStorage }, cookies: document.cookie, caches: await caches.keys(), databases: {} };
  for (const { name } of await indexedDB.databases()) {
    const database = await new Promise((done) => { const o = indexedDB.open(name); o.onsuccess = () => done(o.result); });
    for (const store of database.objectStoreNames) {
      const asked = database.transaction(store).objectStore(store).getAll();
      kept.databases[store] = await new Promise((done) => { asked.onsuccess = () => done(asked.result); });
    }
    database.close();
  }
  return JSON.stringify(kept);
}"""


@pytest.fixture(scope="module")
def locked(new_site: NewSite) -> Iterator[Site]:
    """A server that answers those who have a key."""
    with new_site() as site:
        site.collection("handbook", HANDBOOK)
        site.live.make_key()
        yield site


@pytest.fixture
def page(locked: Site, open_page: OpenPage, watch: Watch) -> Page:
    """The page before anybody signed in."""
    watch.expect(r"status of 401")
    locked.engine()
    opened = open_page(locked.url)
    expect(opened.get_by_role("heading", level=1, name="Sign in")).to_be_visible()
    return opened


def enter(page: Page, secret: str) -> None:
    page.get_by_label("API key").fill(secret)
    page.get_by_role("button", name="Sign in").click()


def sign_in(page: Page, secret: str) -> None:
    """Enter a key that the server takes; return when the page knows what it opens."""
    enter(page, secret)
    expect(page.get_by_role("button", name="Collections: handbook")).to_be_visible()


def key_of(site: Site, *scopes: str) -> str:
    return site.live.services.store.keys.create("test", scopes=scopes or None)[1]


def test_whoever_has_a_key_is_let_in(page: Page, locked: Site, pictures: Pictures) -> None:
    """A key opens the page, for as long as the tab is open; signing out closes it."""
    pictures.take(page, "sign-in")
    sign_in(page, key_of(locked))
    expect(text_of(ask(page, FERRY_QUESTION))).to_contain_text("seven in the morning")
    page.reload()
    expect(composer(page)).to_be_visible()
    expect(page.get_by_role("heading", level=1, name="Sign in")).to_have_count(0)

    page.get_by_role("button", name="Sign out").click()

    expect(page.get_by_role("heading", level=1, name="Sign in")).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0


def test_a_key_is_kept_nowhere_but_in_the_tab(page: Page, locked: Site) -> None:
    """Neither storage that outlives the tab nor the conversations hold the key; another tab does not know it."""
    secret = key_of(locked)
    sign_in(page, secret)
    ask(page, FERRY_QUESTION)
    page.reload()
    expect(conversations(page)).to_have_count(1)
    kept = page.evaluate(EVERYTHING_KEPT)

    assert json.loads(kept)["databases"]["bodies"] != []
    assert secret not in kept
    assert secret not in page.url
    assert secret not in page.content()


def test_a_wrong_key_is_refused_with_a_reason(page: Page) -> None:
    """A wrong key does not open the page, and says why; nothing of the server is shown."""
    enter(page, "rag-wrong")

    expect(page.get_by_role("alert")).to_contain_text("API key")
    expect(page.get_by_role("heading", level=1, name="Sign in")).to_be_visible()
    expect(page.get_by_text("handbook")).to_have_count(0)


def test_a_key_that_is_revoked_meanwhile_asks_for_another(page: Page, locked: Site) -> None:
    """Once the server takes the key no more, the page asks for another, and goes on with that one."""
    key, secret = locked.live.services.store.keys.create("short-lived")
    sign_in(page, secret)
    expect(composer(page)).to_be_visible()
    locked.live.services.store.keys.revoke(key.id)

    composer(page).fill(FERRY_QUESTION)
    composer(page).press("Enter")

    expect(page.get_by_role("heading", level=1, name="Sign in")).to_be_visible()
    sign_in(page, key_of(locked))
    expect(text_of(ask(page, FERRY_QUESTION))).to_contain_text("seven in the morning")


def test_a_key_to_ask_shows_no_collections(page: Page, locked: Site, watch: Watch) -> None:
    """A key that may only ask gets its answers with their sources, and is offered nothing that it may not do."""
    watch.expect(r"status of 403")
    sign_in(page, key_of(locked, "ask"))
    answer = ask(page, FERRY_QUESTION)

    expect(text_of(answer)).to_contain_text("seven in the morning")
    expect(page.get_by_role("link", name="Collections")).to_have_count(0)
    answer.get_by_role("button", name="Source 1:").first.click()
    shown = page.get_by_role("complementary", name="Document")
    expect(shown.locator("mark").first).to_contain_text("seven in the morning")
    expect(shown.get_by_role("tab", name="Passages")).to_have_count(0)


def test_a_key_to_read_neither_asks_nor_changes(page: Page, locked: Site) -> None:
    """A key that may only read sees the collections, and says why it may not ask."""
    sign_in(page, key_of(locked, "read"))
    expect(page.get_by_text("This key may not ask questions.")).to_be_visible()
    composer(page).fill(FERRY_QUESTION)
    expect(page.get_by_role("button", name="Ask", exact=True)).to_be_disabled()

    page.get_by_role("link", name="Collections").click()
    page.get_by_role("link", name="handbook").click()
    expect(page.get_by_role("region", name="Files", exact=True)).to_contain_text("ferry.md")
    for name in ("Add files", "Actions for ferry.md", "Actions for this collection", "Ask from it"):
        expect(page.get_by_role("button", name=name)).to_have_count(0)


def test_keys_do_not_see_each_others_conversations(page: Page, locked: Site) -> None:
    """Two people at one browser, each with a key: neither finds what the other asked, and both find their own again."""
    one, other = key_of(locked), key_of(locked)
    sign_in(page, one)
    ask(page, FERRY_QUESTION)
    address = page.url
    page.get_by_role("button", name="Sign out").click()
    sign_in(page, other)
    expect(page.get_by_text("Conversations are kept in this browser.")).to_be_visible()
    page.goto(address)
    expect(page.get_by_role("heading", level=1, name="New conversation")).to_be_visible()
    expect(page.get_by_role("article")).to_have_count(0)

    page.get_by_role("button", name="Sign out").click()
    sign_in(page, one)

    expect(conversations(page)).to_have_text([FERRY_QUESTION])
