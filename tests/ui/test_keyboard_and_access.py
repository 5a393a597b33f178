"""The page is for everybody: by keyboard alone, with a screen reader, on a phone, in the dark, and from right to left."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.ui.chatting import answers, ask, begin, composer, conversations, document, mark, questions, text_of
from tests.ui.conftest import DESKTOP, NewSite, OpenPage
from tests.ui.documents import HANDBOOK
from tests.ui.looking import PHONE, Pictures, axe
from tests.ui.site import Site, refusing
from tests.ui.watching import Watch

FERRY_QUESTION = "When does the ferry to Utsira leave?"
SMALL_PHONE = {"width": 360, "height": 740}
ARABIC = "# العبارة\n\nتغادر العبارة إلى الجزيرة في السابعة صباحا كل يوم.\n"
ARABIC_QUESTION = "متى تغادر العبارة إلى الجزيرة؟"
IS_FOCUS_KEPT = "(dialog) => dialog.contains(document.activeElement) || document.activeElement === document.body"
# Looks the same with the focus as without it; what is around the element may show it too.
IS_FOCUS_UNSEEN = """() => {
  const focused = document.activeElement;
  if (focused === document.body) return false;
  const around = [focused, ...focused.children, focused.parentElement, ...focused.parentElement.children];
  const look = () => around.map((element) => {
    const { outline, boxShadow, borderColor, backgroundColor } = getComputedStyle(element);
    return [outline, boxShadow, borderColor, backgroundColor].join();
  }).join();
  const seen = look();
  focused.blur();
  const unseen = look();
  focused.focus({ focusVisible: true, preventScroll: true });
  return seen === unseen;
}"""


def tab_to(page: Page, wanted: Locator, *, key: str = "Tab", limit: int = 60) -> None:
    """Press Tab until that has the focus."""
    for _ in range(limit):
        page.keyboard.press(key)
        if wanted.evaluate("(element) => element === document.activeElement"):
            return
    pytest.fail(f"{wanted} is not reached with {key}")


def test_the_main_job_by_keyboard_alone(page: Page) -> None:
    """A question, its quote, its document and back, another conversation, its search and its menu: without a mouse."""
    expect(composer(page)).to_be_focused()
    page.keyboard.type(FERRY_QUESTION)
    page.keyboard.press("Enter")
    answer = answers(page).first
    expect(answer).to_have_attribute("aria-busy", "false")

    tab_to(page, mark(answer), key="Shift+Tab")
    expect(page.get_by_label("Quote", exact=True)).to_contain_text("seven in the morning")
    page.keyboard.press("Enter")
    expect(document(page).locator("mark").first).to_be_visible()
    expect(document(page)).to_be_focused()
    page.keyboard.press("Escape")
    expect(document(page)).not_to_be_visible()
    expect(mark(answer)).to_be_focused()

    page.keyboard.press("Control+k")
    expect(page.get_by_role("heading", level=1, name="New conversation")).to_be_visible()
    expect(composer(page)).to_be_focused()
    tab_to(page, page.get_by_role("button", name=f"Actions for {FERRY_QUESTION}"), key="Shift+Tab")
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox", name="Search conversations")).to_be_focused()
    page.keyboard.type("ferry")
    expect(conversations(page)).to_have_text([FERRY_QUESTION])
    tab_to(page, page.get_by_role("button", name=f"Actions for {FERRY_QUESTION}"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("menuitem", name="Rename")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.type("Crossing")
    page.keyboard.press("Enter")
    expect(conversations(page)).to_have_text(["Crossing"])


def test_settings_by_keyboard_alone(page: Page) -> None:
    """The dialog takes the focus, keeps it, and gives it back."""
    settings = page.get_by_role("button", name="Settings")
    tab_to(page, settings, key="Shift+Tab")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Settings of this conversation")
    expect(dialog).to_be_visible()
    for _ in range(20):
        page.keyboard.press("Tab")
        # Between its end and its beginning the focus is the browser's.
        assert dialog.evaluate(IS_FOCUS_KEPT)
    page.keyboard.press("Escape")

    expect(dialog).not_to_be_visible()
    expect(settings).to_be_focused()


def test_a_line_break_is_written_with_shift(page: Page) -> None:
    """Shift and Enter makes a line in the question; Enter alone sends it."""
    composer(page).press_sequentially("one")
    composer(page).press("Shift+Enter")
    composer(page).press_sequentially("two")

    expect(composer(page)).to_have_value("one\ntwo")
    composer(page).press("Enter")
    expect(questions(page).first).to_contain_text(re.compile(r"one\s+two"))


def test_the_focus_is_seen_wherever_it_is(page: Page) -> None:
    """Whatever Tab reaches shows that it has the focus."""
    ask(page, FERRY_QUESTION)
    unseen = []
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate(IS_FOCUS_UNSEEN):
            unseen.append(page.evaluate("document.activeElement.outerHTML.slice(0, 200)"))

    assert unseen == []


def test_the_end_of_an_answer_is_read_out(page: Page) -> None:
    """A screen reader is told that the answer is on its way, and that it is complete."""
    begin(page, FERRY_QUESTION)

    expect(page.get_by_role("status").filter(has_text="The answer is complete.")).to_be_attached()


def states(page: Page, site: Site) -> Iterator[str]:
    """Walk through what the page can show; give the name of each state while it is shown."""
    is_phone = (page.viewport_size or DESKTOP)["width"] < 600
    expect(page.get_by_role("button", name="Collections: handbook")).to_be_visible()
    yield "welcome"
    answer = ask(page, FERRY_QUESTION)
    answer.get_by_role("button", name="Sources (").click()
    answer.get_by_role("button", name="How the passages were found").click()
    yield "answer"
    yield from _shown_documents(page, answer, is_phone=is_phone)
    site.replace_engine(refusing(503, retry_after_s=60))
    failed = ask(page, FERRY_QUESTION)
    expect(failed.get_by_role("alert")).to_be_visible()
    yield "refused"
    table = "| a | b |\n| - | - |\n| 1 | 2 |"
    site.engine(answer=f"The ferry leaves at noon and carries penguins. [1]\n\n```python\nprint(1)\n```\n\n{table}")
    expect(text_of(ask(page, FERRY_QUESTION)).locator("[data-state=unverified]").first).to_be_visible()
    yield "unverified"
    questions(page).first.get_by_role("button", name="Edit question").click()
    yield "editing"
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Settings").click()
    expect(page.get_by_role("dialog", name="Settings of this conversation")).to_be_visible()
    yield "settings"
    page.keyboard.press("Escape")
    if is_phone:
        page.get_by_role("button", name="Open menu").click()
        yield "menu"
    page.get_by_role("button", name=f"Actions for {FERRY_QUESTION}").click()
    expect(page.get_by_role("menuitem", name="Rename")).to_be_visible()
    yield "actions"
    page.keyboard.press("Escape")
    if is_phone:
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog", name="Menu")).not_to_be_visible()
    yield from _knowledge(page)


def _shown_documents(page: Page, answer: Locator, *, is_phone: bool) -> Iterator[str]:
    sources = answer.locator(".chat-source-list").get_by_role("listitem")
    for name in ("ferry.md", "lighthouse.pdf", "library.html", "harbour.txt"):
        sources.filter(has_text=name).get_by_role("button").first.click()
        shown = page.get_by_role("dialog", name="Document") if is_phone else document(page)
        expect(shown.locator("mark, .textLayer .highlight").first).to_be_visible()
        yield f"document {name}"
        if name == "ferry.md":
            shown.get_by_role("tab", name="Passages").click()
            expect(shown.locator("[aria-current=true]")).to_be_visible()
            yield "passages"
        shown.get_by_role("button", name="Close document").click()
        expect(shown).not_to_be_visible()


def _knowledge(page: Page) -> Iterator[str]:
    page.goto("/#/collections")
    expect(page.get_by_role("link", name="handbook")).to_be_visible()
    yield "collections"
    page.get_by_role("button", name="New collection").click()
    yield "new collection"
    page.keyboard.press("Escape")
    page.get_by_role("link", name="handbook").click()
    search = page.get_by_role("searchbox", name="Search in this collection")
    search.fill("ferry")
    search.press("Enter")
    expect(page.locator(".kn-hits").get_by_role("listitem").first).to_be_visible()
    yield "collection"
    page.get_by_role("button", name="Actions for ferry.md").click()
    yield "file menu"
    page.keyboard.press("Escape")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_axe_finds_nothing_and_nothing_is_too_wide(
    new_site: NewSite, open_page: OpenPage, watch: Watch, scheme: str, size: str
) -> None:
    """In every state axe-core has nothing to say, and nobody has to scroll sideways."""
    watch.expect(r"status of 503")
    viewport = DESKTOP if size == "desktop" else SMALL_PHONE
    found: dict[str, list[str]] = {}
    with new_site() as site:
        site.collection("handbook", HANDBOOK)
        page = open_page(site.url, color_scheme=scheme, viewport=viewport, has_touch=size == "phone")
        for state in states(page, site):
            found[state] = axe(page)
            if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                found[state].append("wider than the window")

    assert {state: problems for state, problems in found.items() if problems} == {}


def test_signing_in_is_accessible(new_site: NewSite, open_page: OpenPage, watch: Watch) -> None:
    """Also before anybody is let in, and after a wrong key."""
    watch.expect(r"status of 401")
    with new_site() as site:
        site.live.make_key()
        for scheme in ("light", "dark"):
            page = open_page(site.url, color_scheme=scheme)
            page.get_by_label("API key").fill("rag-wrong")
            page.get_by_role("button", name="Sign in").click()
            expect(page.get_by_role("alert")).to_be_visible()

            assert axe(page) == []


def test_on_a_phone_everything_is_a_touch_away(server: Site, open_page: OpenPage, pictures: Pictures) -> None:
    """On a phone the menu and the document lie over the conversation, and leave it again."""
    page = open_page(server.url, viewport=PHONE, has_touch=True)
    answer = ask(page, FERRY_QUESTION)
    expect(text_of(answer)).to_contain_text("seven in the morning")
    pictures.take(page, "phone-answer")
    mark(answer).tap()
    shown = page.get_by_role("dialog", name="Document")
    expect(shown.locator("mark").first).to_be_in_viewport()
    pictures.take(page, "phone-document")
    shown.get_by_role("button", name="Close document").tap()
    expect(shown).not_to_be_visible()

    page.get_by_role("button", name="Open menu").tap()
    page.get_by_role("dialog", name="Menu").get_by_role("link", name="New conversation").tap()
    expect(page.get_by_role("heading", level=1, name="New conversation")).to_be_visible()
    expect(page.get_by_role("dialog", name="Menu")).not_to_be_visible()


def test_right_to_left_text_runs_that_way(new_site: NewSite, open_page: OpenPage, pictures: Pictures) -> None:
    """A question, an answer and a document in Arabic are laid out from right to left, on a page that is not."""
    with new_site() as site:
        site.collection("handbook", {"ferry.md": ARABIC})
        page = open_page(site.url)
        expect(page.get_by_role("button", name="Collections: handbook")).to_be_visible()
        answer = ask(page, ARABIC_QUESTION)
        expect(text_of(answer)).to_contain_text("السابعة صباحا")
        pictures.take(page, "right-to-left")

        assert _direction(questions(page).first.get_by_text(ARABIC_QUESTION)) == "rtl"
        assert _direction(text_of(answer).get_by_text("السابعة صباحا")) == "rtl"
        assert _direction(page.locator("html")) == "ltr"
        assert _is_left_of_its_text(mark(answer))
        mark(answer).click()
        assert _direction(document(page).locator("mark").first) == "rtl"
        assert axe(page) == []


def _direction(element: Locator) -> str:
    return str(element.evaluate("(element) => getComputedStyle(element).direction"))


def _is_left_of_its_text(element: Locator) -> bool:
    """Whether an element at the end of its paragraph stands to the left of the last line before it, or under it."""
    return bool(
        element.evaluate(
            """(element) => {
              const before = document.createRange();
              before.selectNodeContents(element.closest("p"));
              before.setEndBefore(element);
              const line = [...before.getClientRects()].filter(({ width }) => width > 0).at(-1);
              const mark = element.getBoundingClientRect();
              return mark.right <= line.left + 4 || mark.top >= line.bottom - 4;
            }"""
        )
    )
