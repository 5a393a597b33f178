"""The main job: put documents in, ask, read, and find it all again."""

import json
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.ui.chatting import act, answers, ask, begin, composer, conversations, mark, new_conversation, questions, text_of
from tests.ui.conftest import NewSite, OpenPage
from tests.ui.documents import FERRY
from tests.ui.looking import Pictures
from tests.ui.site import Site

FERRY_QUESTION = "When does the ferry to Utsira leave?"
TOWER_QUESTION = "When was the lighthouse built?"
LONG_ANSWER = " ".join(f"word{number}" for number in range(400))
DROP = """([name, text]) => {
  const dropped = new DataTransfer();
  dropped.items.add(new File([text], name));
  for (const type of ["dragover", "drop"]) {
    document.body.dispatchEvent(new DragEvent(type, { dataTransfer: dropped, bubbles: true, cancelable: true }));
  }
}"""


def test_from_an_empty_server_to_an_answer(new_site: NewSite, open_page: OpenPage, pictures: Pictures) -> None:
    """Somebody with nothing makes a collection, drops a file, sees it become ready, asks, and gets its sentence."""
    with new_site() as site:
        page = open_page(site.url)
        page.get_by_role("link", name="Make a collection").click()
        page.get_by_role("button", name="New collection").click()
        page.get_by_role("textbox", name="Name").fill("Island")
        page.get_by_role("button", name="Create").click()
        expect(page.get_by_role("heading", level=1, name="Island")).to_be_visible()

        page.evaluate(DROP, ["ferry.md", FERRY])
        row = page.get_by_role("region", name="Files", exact=True).get_by_role("listitem").filter(has_text="ferry.md")
        expect(row).to_contain_text("Waiting")
        site.live.index_waiting()
        expect(row).to_contain_text("Ready")
        pictures.take(page, "collection")

        page.get_by_role("button", name="Ask from it").click()
        answer = ask(page, FERRY_QUESTION)

        expect(text_of(answer)).to_contain_text("The ferry to Utsira leaves at seven in the morning.")
        expect(mark(answer)).to_have_accessible_name("Source 1: ferry.md")


def test_tokens_arrive_and_an_answer_can_be_stopped(page: Page, server: Site, pictures: Pictures) -> None:
    """The text grows while the answer is on its way; stopped, it keeps what came, and the engine is let go."""
    server.engine(answer=LONG_ANSWER, tokens_per_s=30)
    answer = begin(page, FERRY_QUESTION)
    stop = page.get_by_role("button", name="Stop")

    expect(text_of(answer)).to_contain_text("word5")
    expect(text_of(answer)).to_contain_text("word15")
    expect(stop).to_be_visible()
    pictures.take(page, "streaming")
    stop.click()

    expect(answer).to_contain_text("Stopped.")
    expect(page.get_by_role("button", name="Ask", exact=True)).to_be_visible()
    expect(text_of(answer)).to_contain_text("word15")
    expect(text_of(answer)).not_to_contain_text("word399")


def test_escape_stops_an_answer(page: Page, server: Site) -> None:
    """Escape in the field of the question stops what is on its way."""
    server.engine(answer=LONG_ANSWER, tokens_per_s=30)
    answer = begin(page, FERRY_QUESTION)
    expect(text_of(answer)).to_contain_text("word5")

    composer(page).press("Escape")

    expect(answer).to_contain_text("Stopped.")


def test_asking_again_keeps_both_answers(page: Page, server: Site) -> None:
    """An answer that is asked for again is a version beside the first; both are found by paging."""
    server.engine(answer="Perhaps.")
    answer = ask(page, FERRY_QUESTION)
    server.engine(answer="Certainly.")
    answer.get_by_role("button", name="Ask again").click()

    expect(text_of(answer)).to_have_text("Certainly.")
    expect(answer).to_contain_text("2 / 2")
    answer.get_by_role("button", name="Previous version").click()
    expect(text_of(answer)).to_have_text("Perhaps.")
    expect(answer).to_contain_text("1 / 2")
    expect(answers(page)).to_have_count(1)


def test_an_edited_question_is_a_branch(page: Page) -> None:
    """An edited question is asked anew; the one before is still there, with its answer."""
    ask(page, FERRY_QUESTION)
    question = questions(page).first
    question.get_by_role("button", name="Edit question").click()
    page.get_by_role("textbox", name="Edited question").fill(TOWER_QUESTION)
    page.get_by_role("button", name="Ask edited question").click()

    expect(text_of(answers(page).last)).to_contain_text("1859")
    expect(questions(page)).to_have_count(1)
    question.get_by_role("button", name="Previous version").click()
    expect(text_of(answers(page).last)).to_contain_text("seven in the morning")
    expect(question).to_contain_text(FERRY_QUESTION)


def test_the_engine_is_told_the_branch_that_is_shown(page: Page, server: Site) -> None:
    """A question that follows an edited one goes with the edited one, and not with what was said in the other branch."""
    ask(page, FERRY_QUESTION)
    questions(page).first.get_by_role("button", name="Edit question").click()
    page.get_by_role("textbox", name="Edited question").fill(TOWER_QUESTION)
    page.get_by_role("button", name="Ask edited question").click()
    expect(text_of(answers(page).last)).to_contain_text("1859")
    server.live.engine.sent.clear()

    ask(page, "And who may visit it?")

    sent = b"".join(server.live.engine.sent).decode()
    assert TOWER_QUESTION in sent
    assert FERRY_QUESTION not in sent


def test_question_and_answer_can_be_copied(page: Page, server: Site) -> None:
    """What is copied is what was written: the answer's Markdown, and the question."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    server.engine(answer="A **bold** answer.")
    answer = ask(page, FERRY_QUESTION)

    answer.get_by_role("button", name="Copy answer").click()
    expect(answer.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == "A **bold** answer."
    questions(page).first.get_by_role("button", name="Copy question").click()
    expect(questions(page).first.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == FERRY_QUESTION


def test_markdown_is_laid_out(page: Page, server: Site) -> None:
    """Headings, lists, tables, code and formulas of an answer are shown as such."""
    fence = "```"
    server.engine(
        answer=f"## Prices\n\n- one\n- two\n\n| Ticket | Crowns |\n| --- | --- |\n| Adult | 90 |\n\n"
        f"{fence}python\nprint('ferry')\n{fence}\n\nThe area is $\\pi r^2$."
    )
    text = text_of(ask(page, FERRY_QUESTION))

    expect(text.get_by_role("heading", name="Prices")).to_be_visible()
    expect(text.get_by_role("listitem")).to_have_count(2)
    expect(text.get_by_role("cell", name="90")).to_be_visible()
    expect(text.locator("pre code")).to_have_text("print('ferry')\n")
    expect(text.locator("math").first).to_be_attached()


def test_conversations_are_found_renamed_and_kept(page: Page) -> None:
    """Several conversations stay apart; they are searched by what was said in them, renamed, and there after a reload."""
    ask(page, FERRY_QUESTION)
    new_conversation(page)
    ask(page, TOWER_QUESTION)
    expect(conversations(page)).to_have_text([TOWER_QUESTION, FERRY_QUESTION])

    page.get_by_role("searchbox", name="Search conversations").fill("seven in the morning")
    expect(conversations(page)).to_have_text([FERRY_QUESTION])
    page.get_by_role("searchbox", name="Search conversations").fill("")
    act(page, FERRY_QUESTION, "Rename")
    page.get_by_role("textbox", name="Name of the conversation").fill("Crossing")
    page.get_by_role("textbox", name="Name of the conversation").press("Enter")
    expect(conversations(page).filter(has_text="Crossing")).to_be_visible()

    page.reload()
    conversations(page).filter(has_text="Crossing").click()

    expect(page.get_by_role("heading", level=1, name="Crossing")).to_be_visible()
    expect(text_of(answers(page).first)).to_contain_text("seven in the morning")
    expect(mark(answers(page).first)).to_have_attribute("data-state", "verified")
    expect(page.get_by_role("button", name="Sources (", exact=False)).to_be_visible()


def test_a_reload_in_mid_answer_keeps_what_came(page: Page, server: Site) -> None:
    """What had come of an answer is there after a reload, with a word that it broke off; it can be asked for again."""
    server.engine(answer=LONG_ANSWER, tokens_per_s=30)
    answer = begin(page, FERRY_QUESTION)
    expect(text_of(answer)).to_contain_text("word40")

    page.reload()

    expect(text_of(answers(page).first)).to_contain_text("word20")
    expect(answers(page).first).to_contain_text("The page was closed before the answer ended.")
    server.engine(answer="All of it.")
    answers(page).first.get_by_role("button", name="Ask again").click()
    expect(text_of(answers(page).first)).to_have_text("All of it.")


def test_a_deleted_conversation_can_be_brought_back(page: Page) -> None:
    """Deleting takes a conversation away for good, unless it is undone."""
    ask(page, FERRY_QUESTION)
    act(page, FERRY_QUESTION, "Delete")
    expect(conversations(page)).to_have_count(0)

    page.get_by_role("button", name="Undo").click()
    expect(conversations(page)).to_have_text([FERRY_QUESTION])
    conversations(page).first.click()
    expect(text_of(answers(page).first)).to_contain_text("seven in the morning")

    act(page, FERRY_QUESTION, "Delete")
    expect(conversations(page)).to_have_count(0)
    page.reload()
    expect(page.get_by_text("Conversations are kept in this browser.")).to_be_visible()


def test_conversations_are_exported(page: Page) -> None:
    """Markdown for people, with the quotes of the sources; JSON for programs, with everything."""
    ask(page, FERRY_QUESTION)

    markdown = _exported(page, "Export as Markdown")
    whole = json.loads(_exported(page, "Export as JSON"))

    assert markdown.startswith(f"# {FERRY_QUESTION}\n")
    assert "> The ferry to Utsira leaves at seven in the morning." in markdown
    (answer,) = [turn for turn in whole["turns"].values() if turn["role"] == "assistant"]
    assert answer["rag"]["passages"][0]["filename"] == "ferry.md"
    assert answer["rag"]["citations"][0]["verified"] is True


def _exported(page: Page, action: str) -> str:
    with page.expect_download() as download:
        act(page, FERRY_QUESTION, action)
    return Path(download.value.path()).read_text(encoding="utf-8")


def test_another_collection_is_chosen_in_the_settings(new_site: NewSite, open_page: OpenPage, pictures: Pictures) -> None:
    """The settings say where answers come from, and with how many passages; the server's are a button away."""
    with new_site() as site:
        site.collection("island", {"ferry.md": FERRY})
        site.collection("mainland", {"ferry.md": "# Mainland\n\nThe ferry to Bergen leaves at noon.\n"})
        page = open_page(site.url)
        expect(page.get_by_role("button", name="Collections: island")).to_be_visible()
        page.get_by_role("button", name="Settings").click()
        dialog = page.get_by_role("dialog", name="Settings of this conversation")
        dialog.get_by_role("checkbox", name="mainland").check()
        dialog.get_by_role("checkbox", name="island").uncheck()
        dialog.get_by_role("spinbutton", name="Passages").fill("1")
        pictures.take(page, "settings")
        dialog.get_by_role("button", name="Save").click()
        expect(page.get_by_role("button", name="Collections: mainland")).to_be_visible()

        answer = ask(page, "When does the ferry leave?")
        expect(text_of(answer)).to_contain_text("The ferry to Bergen leaves at noon.")
        expect(answer.get_by_role("button", name="Sources (1)")).to_be_visible()

        page.get_by_role("button", name="Settings").click()
        dialog.get_by_role("button", name="Back to the server's settings").click()
        expect(dialog.get_by_role("spinbutton", name="Passages")).to_have_value("")
        expect(dialog.get_by_role("checkbox", name="mainland")).to_be_checked()


def test_a_filter_that_is_no_json_is_refused(page: Page) -> None:
    """A slip of the pen in the filter is said in the dialog, which stays open."""
    page.get_by_role("button", name="Settings").click()
    dialog = page.get_by_role("dialog", name="Settings of this conversation")
    dialog.get_by_role("textbox", name="Filter (JSON)").fill('{"type": ')
    dialog.get_by_role("button", name="Save").click()

    expect(dialog.get_by_role("alert")).to_contain_text("JSON")


def test_the_theme_is_kept(page: Page) -> None:
    """A theme changes the colours at once, and is there after a reload."""
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Theme: system").click()
    page.get_by_role("button", name="Theme: light").click()
    expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before

    page.reload()

    expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()
