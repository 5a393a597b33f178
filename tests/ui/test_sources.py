"""What an answer rests on: marks, quotes, the documents behind them, and how they were found."""

import re
from decimal import ROUND_HALF_UP, Decimal

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.ui.chatting import ask, begin, document, mark, text_of
from tests.ui.documents import LIGHTHOUSE
from tests.ui.looking import Pictures
from tests.ui.site import Site
from tests.ui.watching import Watch

FERRY_QUESTION = "When does the ferry to Utsira leave?"
FERRY_SENTENCE = "The ferry to Utsira leaves at seven in the morning."


def test_a_mark_shows_its_quote(page: Page, pictures: Pictures) -> None:
    """Pointing at a mark shows the sentence of the document, and that it was checked."""
    answer = ask(page, FERRY_QUESTION)
    mark(answer).hover()
    quote = page.get_by_label("Quote", exact=True)

    expect(quote.locator("blockquote")).to_have_text(FERRY_SENTENCE)
    expect(quote).to_contain_text("ferry.md")
    expect(quote).to_contain_text("Verified")
    pictures.take(page, "answer")


def test_a_mark_opens_the_markdown_with_the_quote_marked(page: Page, pictures: Pictures) -> None:
    """The document stands beside the conversation, laid out, and the quote in it is marked and in view."""
    answer = ask(page, FERRY_QUESTION)
    mark(answer).click()
    shown = document(page)

    expect(shown.get_by_role("heading", name="The ferry", exact=True).first).to_be_visible()
    expect(shown.get_by_role("cell", name="90")).to_be_visible()
    assert _marked(shown) == FERRY_SENTENCE
    expect(shown.locator("mark").first).to_be_in_viewport()
    pictures.take(page, "markdown")

    shown.get_by_role("button", name="Close document").click()
    expect(shown).not_to_be_visible()


def test_a_mark_opens_the_pdf_at_its_page(page: Page, pictures: Pictures) -> None:
    """Of a PDF its pages are shown, at the page of the quote, which is highlighted where it stands on the page."""
    answer = ask(page, "When was the lighthouse built?")
    mark(answer).click()
    shown = document(page)

    highlights = shown.locator(".textLayer .highlight")
    expect(highlights.first).to_be_visible()
    expect(highlights.first).to_be_in_viewport()
    expect(shown).to_contain_text("Page 2 of 3")
    assert "lighthouse was built in 1859" in " ".join(highlights.all_inner_texts())
    pictures.take(page, "pdf")


def test_a_mark_opens_the_web_page_with_the_quote_marked(page: Page) -> None:
    """Of a web page its text and structure are shown, and the quote in it is marked."""
    answer = ask(page, "When does the library open on weekdays?")
    mark(answer).click()
    shown = document(page)

    expect(shown.get_by_role("heading", name="The library").first).to_be_visible()
    expect(shown.get_by_role("listitem").filter(has_text="Maps on the second floor")).to_be_visible()
    assert _marked(shown) == "The library opens at nine o'clock on weekdays."


def test_a_mark_opens_the_text_with_the_quote_marked(page: Page) -> None:
    """Of what has no layout the text is shown, and the quote in it is marked."""
    answer = ask(page, "Who is the harbour master?")
    mark(answer).click()
    shown = document(page)

    expect(shown).to_contain_text("The harbour closes at ten in the evening.")
    assert _marked(shown) == "The harbour master is Ingrid Solberg."


def test_the_text_and_the_passages_are_views_of_the_document(page: Page) -> None:
    """Beside the layout there are the text as it is searched, with the quote marked, and the passages, to walk through."""
    answer = ask(page, FERRY_QUESTION)
    mark(answer).click()
    shown = document(page)
    shown.get_by_role("tab", name="Text").click()
    expect(shown.locator("mark").first).to_be_visible()
    assert _marked(shown) == FERRY_SENTENCE

    shown.get_by_role("tab", name="Passages").click()
    current = shown.locator("[aria-current=true]")
    expect(current).to_contain_text(FERRY_SENTENCE)


def test_the_original_can_be_downloaded(page: Page, server: Site) -> None:
    """What is downloaded from the viewer is the file that was indexed, byte for byte."""
    answer = ask(page, "When was the lighthouse built?")
    mark(answer).click()
    with page.expect_download() as download:
        document(page).get_by_role("button", name="Download the original file").click()

    assert download.value.suggested_filename == "lighthouse.pdf"
    assert download.value.path().read_bytes() == LIGHTHOUSE


def test_sentences_without_support_look_different(page: Page, server: Site) -> None:
    """A sentence that a passage supports has a verified mark; one that none supports is set off, and so is its mark."""
    server.engine(answer=f"{FERRY_SENTENCE} [1] Penguins crew every vessel during February. [1]")
    answer = ask(page, FERRY_QUESTION)
    verified, unverified = answer.locator("[data-state=verified]"), answer.locator("[data-state=unverified]")

    expect(verified).to_have_count(1)
    expect(unverified).to_have_count(1)
    expect(unverified).to_have_accessible_name("Source 1: ferry.md, unverified")
    expect(text_of(answer).locator(".md-unverified").first).to_contain_text("Penguins crew every vessel")
    assert _look(verified) != _look(unverified)
    unverified.hover()
    expect(page.get_by_label("Quote", exact=True)).to_contain_text("Unverified")


def test_marks_wait_for_the_check_while_the_answer_streams(page: Page, server: Site) -> None:
    """Until the answer is complete its marks are neither verified nor unverified."""
    server.engine(answer=f"{FERRY_SENTENCE} [1] " + " ".join(["and"] * 60), tokens_per_s=30)
    answer = begin(page, FERRY_QUESTION)
    expect(mark(answer)).to_have_attribute("data-state", "pending")
    page.get_by_role("button", name="Stop").click()
    expect(answer).to_contain_text("Stopped.")


def test_numbers_of_no_passage_are_no_marks(page: Page, server: Site) -> None:
    """A number that stands for no passage stays the text that the model wrote."""
    server.engine(answer="It says so somewhere [77] in a book [0].")
    answer = ask(page, FERRY_QUESTION)

    expect(text_of(answer)).to_contain_text("[77]")
    expect(text_of(answer)).to_contain_text("[0]")
    expect(answer.get_by_role("button", name="Source 77")).to_have_count(0)


def test_the_list_of_sources_leads_to_the_documents(page: Page) -> None:
    """Under an answer stand its passages, each with its file; they open too."""
    answer = ask(page, FERRY_QUESTION)
    answer.get_by_role("button", name=re.compile(r"^Sources \(\d+\)$")).click()
    listed = answer.locator(".chat-source-list").get_by_role("listitem")

    assert {"ferry.md", "lighthouse.pdf", "library.html", "harbour.txt"} == {
        name for item in listed.all() for name in re.findall(r"\w+\.(?:md|pdf|html|txt)", item.inner_text())
    }
    listed.filter(has_text="harbour.txt").get_by_role("button").click()
    expect(document(page)).to_contain_text("Ingrid Solberg")


def test_how_the_passages_were_found_agrees_with_the_server(page: Page, server: Site, pictures: Pictures) -> None:
    """The table holds each candidate's ranks and scores of every stage, and whether it was in the prompt, as the API says."""
    answer = ask(page, FERRY_QUESTION)
    answer.get_by_role("button", name="How the passages were found").click()
    table = answer.get_by_role("table")
    header = table.get_by_role("columnheader").all_inner_texts()
    trace = server.ask(FERRY_QUESTION, trace=True)["rag"]["trace"]["candidates"]

    assert header == ["Passage", "Dense", "Lexical", "Fusion", "In the prompt"]
    rows = [[cell.inner_text() for cell in row.get_by_role("cell").all()] for row in table.get_by_role("row").all()[1:]]
    assert rows == [
        [*(_rank(candidate, stage) for stage in ("dense", "lexical", "fusion")), _place(candidate)] for candidate in trace
    ]
    assert len(rows) >= 4
    expect(answer.get_by_label("Time per stage")).to_contain_text("ms")
    pictures.take(page, "found")


def _rank(candidate: dict, stage: str) -> str:
    found = candidate["ranks"][stage]
    if found is None:
        return "–"
    return str(found["rank"]) if found["score"] is None else f"{found['rank']} ({_three_digits(found['score'])})"


def _three_digits(number: float) -> str:
    """As JavaScript writes it, which rounds halves up, of numbers from 1e-6 on."""
    exact = Decimal(number)
    return f"{exact.quantize(Decimal(1).scaleb(exact.adjusted() - 2), ROUND_HALF_UP):f}"


def _place(candidate: dict) -> str:
    if candidate["number"] is not None:
        return f"[{candidate['number']}]"
    return {"rank": "not among the best", "room": "no room"}[candidate["left_out"]]


@pytest.mark.parametrize("kind", ["Lexical", "Dense"])
def test_a_search_of_one_kind_has_no_fusion(page: Page, kind: str) -> None:
    """The table shows the stages that there were."""
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("combobox", name="Search").select_option(kind.lower())
    page.get_by_role("button", name="Save").click()
    answer = ask(page, FERRY_QUESTION)
    answer.get_by_role("button", name="How the passages were found").click()

    expect(answer.get_by_role("columnheader")).to_have_text(["Passage", kind, "In the prompt"])


def test_a_citations_address_leads_to_the_passage(page: Page, server: Site) -> None:
    """The address of a passage, as other programs show it, opens the document in the page."""
    url = server.ask(FERRY_QUESTION)["rag"]["passages"][0]["url"]
    page.goto(url)

    expect(page.get_by_role("main", name="Document")).to_contain_text(FERRY_SENTENCE)
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("ferry", re.IGNORECASE))


def test_a_passage_that_is_gone_says_so(page: Page, watch: Watch) -> None:
    """Whoever follows an address to a passage that is no more learns why."""
    watch.expect(r"status of 404")
    page.goto("/#/passages/999999")

    expect(page.get_by_role("alert")).to_contain_text("This passage is gone")


def _marked(shown: Locator) -> str:
    """What is marked in a document."""
    expect(shown.locator("mark").first).to_be_visible()
    return "".join(shown.locator("mark").all_inner_texts()).strip()


def _look(element: Locator) -> str:
    return str(
        element.evaluate("e => { const s = getComputedStyle(e); return [s.color, s.backgroundColor, s.borderStyle].join() }")
    )
