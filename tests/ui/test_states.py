"""What the page shows when something is missing, slow, broken, or very long."""

import time
from collections.abc import Callable

from playwright.sync_api import Page, Route, expect

from tests.ui.chatting import answers, ask, begin, composer, conversations, questions, text_of
from tests.ui.conftest import HoldTo, NewSite, OpenPage
from tests.ui.looking import Pictures
from tests.ui.site import Site, refusing, silent
from tests.ui.watching import Watch

FERRY_QUESTION = "When does the ferry to Utsira leave?"
FERRY_SENTENCE = "The ferry to Utsira leaves at seven in the morning."
# Nobody notices what is shorter.
LONGEST_TASK_MS = 200
NOTE_LONG_TASKS = """() => {
  window.longTasks = [];
  new PerformanceObserver((list) => window.longTasks.push(...list.getEntries().map(({ duration }) => duration)))
    .observe({ type: "longtask" });
}"""
KEEP = """async ([heads, bodies]) => {
  const database = await new Promise((done, failed) => {
    const opening = indexedDB.open("rag-server");
    opening.onsuccess = () => done(opening.result);
    opening.onerror = () => failed(opening.error);
  });
  const transaction = database.transaction(["heads", "bodies"], "readwrite");
  for (const head of heads) transaction.objectStore("heads").put(head);
  for (const body of bodies) transaction.objectStore("bodies").put(body);
  await new Promise((done, failed) => { transaction.oncomplete = done; transaction.onerror = failed; });
  database.close();
}"""


def test_an_engine_that_starts_is_named_until_it_is_there(
    new_site: NewSite, open_page: OpenPage, watch: Watch, pictures: Pictures
) -> None:
    """While the model is loading a banner says so; it goes by itself, and the question that was written meanwhile is asked."""
    watch.expect(r"status of 503")
    with new_site() as site:
        site.collection("handbook", {"ferry.md": f"# Ferry\n\n{FERRY_SENTENCE}\n"})
        site.replace_engine(silent())
        site.wait_until_ready(status=503)
        page = open_page(site.url)
        banner = page.get_by_role("status").filter(has_text="Starting")
        expect(banner).to_contain_text("engine")
        pictures.take(page, "starting")
        composer(page).fill(FERRY_QUESTION)

        site.engine()

        expect(banner).not_to_be_visible()
        composer(page).press("Enter")
        expect(text_of(answers(page).last)).to_contain_text(FERRY_SENTENCE)


def test_a_question_that_is_asked_before_the_server_is_known_is_not_lost(page: Page) -> None:
    """A server may take its time to say what it has; who asks meanwhile is answered from the documents, or asks again."""
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/v1/rag", hold, times=1)
    page.reload()
    composer(page).fill(FERRY_QUESTION)
    composer(page).press("Enter")
    while held:
        held.pop().continue_()
    expect(page.get_by_role("button", name="Collections: handbook")).to_be_visible()

    if composer(page).input_value() == FERRY_QUESTION:
        composer(page).press("Enter")

    expect(text_of(answers(page).first)).to_contain_text(FERRY_SENTENCE)


def test_an_overloaded_engine_is_asked_again_when_it_says(page: Page, server: Site, watch: Watch, pictures: Pictures) -> None:
    """A refusal for want of room counts down to when it may be asked again, and then works."""
    watch.expect(r"status of (429|503)")
    for status in (503, 429):
        server.replace_engine(refusing(status, retry_after_s=3))
        answer = begin(page, FERRY_QUESTION)
        again = answer.get_by_role("alert").get_by_role("button")
        expect(again).to_have_text("Again in 2 s")
        expect(again).to_be_disabled()
        pictures.take(page, "overloaded")
        server.engine()

        expect(again).to_have_text("Ask again")
        again.click()

        expect(text_of(answer)).to_contain_text(FERRY_SENTENCE)


def test_a_failing_engine_says_why(page: Page, server: Site, watch: Watch) -> None:
    """A failure is shown with its message, the question stays, and asking again works."""
    watch.expect(r"status of 5\d\d")
    server.replace_engine(refusing(500))
    answer = begin(page, FERRY_QUESTION)
    expect(answer.get_by_role("alert")).not_to_be_empty()
    expect(questions(page).first).to_contain_text(FERRY_QUESTION)
    server.engine()

    answer.get_by_role("button", name="Ask again").click()

    expect(text_of(answer)).to_contain_text(FERRY_SENTENCE)


def test_nothing_is_lost_while_the_server_is_away(page: Page, watch: Watch, pictures: Pictures) -> None:
    """Without the server a banner says so; what is shown and what is written stay, and go on when it is back."""
    watch.expect(r"net::ERR_INTERNET_DISCONNECTED")
    ask(page, FERRY_QUESTION)
    page.context.set_offline(True)
    banner = page.get_by_role("status").filter(has_text="does not answer")
    expect(banner).to_be_visible()
    composer(page).fill("When was the lighthouse built?")
    pictures.take(page, "offline")
    composer(page).press("Enter")
    expect(answers(page).last.get_by_role("alert")).to_contain_text("connection to the server is lost")
    expect(text_of(answers(page).first)).to_contain_text(FERRY_SENTENCE)

    page.context.set_offline(False)

    expect(banner).not_to_be_visible()
    answers(page).last.get_by_role("button", name="Ask again").click()
    expect(text_of(answers(page).last)).to_contain_text("1859")


def test_an_error_in_mid_answer_keeps_what_came(page: Page, server: Site, pictures: Pictures) -> None:
    """An answer that breaks off says so; its beginning stays, and it can be asked for again."""
    server.engine(answer=" ".join(f"word{number}" for number in range(100)), break_after_tokens=20)
    answer = begin(page, FERRY_QUESTION)

    expect(answer.get_by_role("alert")).not_to_be_empty()
    expect(text_of(answer)).to_contain_text("word10")
    pictures.take(page, "broken-off")
    server.engine()
    answer.get_by_role("button", name="Ask again").click()
    expect(text_of(answer)).to_contain_text(FERRY_SENTENCE)


def test_an_answer_that_is_cut_says_so(page: Page, server: Site) -> None:
    """An answer that reached the longest length is not taken for a whole one."""
    server.engine(answer="word " * 9000)
    answer = ask(page, FERRY_QUESTION)

    expect(answer).to_contain_text("The answer was cut")


def test_an_empty_collection_says_so(new_site: NewSite, open_page: OpenPage, pictures: Pictures) -> None:
    """A collection without documents is called empty before a question and after it."""
    with new_site() as site:
        site.live.create("handbook")
        page = open_page(site.url)
        expect(page.get_by_text("The collection handbook is empty.")).to_be_visible()
        expect(page.get_by_role("link", name="Add documents")).to_be_visible()
        pictures.take(page, "empty")

        answer = ask(page, FERRY_QUESTION)

        expect(answer).to_contain_text("Nothing was found in the documents")


def test_where_nothing_is_found_it_is_said(page: Page, pictures: Pictures) -> None:
    """An answer that no passage was found for is not taken for one from the documents."""
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("textbox", name="Filter (JSON)").fill('{"type": "eq", "key": "filename", "value": "none.md"}')
    page.get_by_role("button", name="Save").click()

    answer = ask(page, FERRY_QUESTION)

    expect(answer).to_contain_text("Nothing was found in the documents")
    pictures.take(page, "nothing-found")


def long_markdown(num_words: int) -> str:
    """An answer with all that Markdown has, of at least so many words."""
    fence = "```"
    section = (
        "## Part {n}\n\nThe ferry to Utsira leaves at seven in the morning [1]. It is *often* late, and **never** early [2], "
        "as `timetable.md` says. The area of the deck is $\\pi r^2$.\n\n- one thing\n- another thing\n  1. with a part\n\n"
        f"{fence}python\nfor ferry in harbour:\n    print(ferry.leaves_at, {{n}})\n{fence}\n\n"
        "| Ticket | Crowns |\n| --- | --- |\n| Adult | 90 |\n| Child | 45 |\n\n> So it was said in the harbour.\n\n"
    )
    number = num_words // len(section.split()) + 1
    return "".join(section.replace("{n}", str(n)) for n in range(number))


def test_a_very_long_answer_does_not_hold_up_the_page(
    open_page: OpenPage, new_site: NewSite, hold_to: HoldTo, pictures: Pictures
) -> None:
    """While 20,000 tokens stream in, no task of the page takes longer than 200 ms."""
    with new_site() as site:
        site.collection("handbook", {"ferry.md": f"# Ferry\n\n{FERRY_SENTENCE}\n"})
        site.engine(answer=long_markdown(20_000), tokens_per_s=1000, context_length=100_000)

        def longest() -> float:
            page = open_page(site.url)
            expect(page.get_by_role("button", name="Collections: handbook")).to_be_visible()
            page.evaluate(NOTE_LONG_TASKS)
            composer(page).fill(FERRY_QUESTION)
            composer(page).press("Enter")
            # Not by roles: to find those in so long a text, the test itself would hold up the page.
            answer = page.locator(".chat-answer")
            expect(answer).to_have_attribute("aria-busy", "false", timeout=120_000)
            took_ms = longest_task_ms(page)
            expect(answer.locator("h2").last).to_be_in_viewport()
            pictures.take(page, "long-answer")
            return took_ms

        hold_to_short_tasks(longest, hold_to)


def test_a_conversation_of_200_turns_goes_on(page: Page, hold_to: HoldTo) -> None:
    """A very long conversation opens at its end, and a question more is answered without holding up the page."""
    ask(page, "Which ferry is it?")
    keep(page, [conversation("long", "Long talk", num_turns=200)])

    def longest() -> float:
        page.reload()
        page.evaluate(NOTE_LONG_TASKS)
        conversations(page).filter(has_text="Long talk").click()
        expect(page.get_by_text("Answer number 199.", exact=True)).to_be_in_viewport()
        ask(page, FERRY_QUESTION)
        expect(text_of(answers(page).last)).to_contain_text(FERRY_SENTENCE)
        return longest_task_ms(page)

    hold_to_short_tasks(longest, hold_to)


def test_a_thousand_conversations_are_listed_and_searched(page: Page, hold_to: HoldTo) -> None:
    """All of a thousand conversations are in the list, and one of them is found by a word, without holding up the page."""
    ask(page, "Which ferry is it?")
    keep(page, [conversation(f"c{number}", f"Talk {number}", num_turns=4) for number in range(999)])

    def longest() -> float:
        page.reload()
        page.evaluate(NOTE_LONG_TASKS)
        expect(conversations(page)).to_have_count(1000)
        search = page.get_by_role("searchbox", name="Search conversations")
        search.press_sequentially("talk 777")
        expect(conversations(page)).to_have_text(["Talk 777"])
        search.fill("")
        expect(conversations(page)).to_have_count(1000)
        return longest_task_ms(page)

    hold_to_short_tasks(longest, hold_to)


def longest_task_ms(page: Page) -> float:
    return max(page.evaluate("window.longTasks"), default=0.0)


def hold_to_short_tasks(longest: Callable[[], float], hold_to: HoldTo) -> None:
    """One of two tries has no long task: the machine does other things too."""
    hold_to("longest task", [longest(), longest()], LONGEST_TASK_MS)


def conversation(conversation_id: str, title: str, *, num_turns: int) -> tuple[dict, dict]:
    """What the page keeps of a conversation: its head and its body."""
    now = int(time.time() * 1000) - 1_000_000
    turns, parent = {}, None
    for number in range(num_turns):
        turn_id = f"{conversation_id}-{number}"
        turn = {"id": turn_id, "parent": parent, "createdAt": now + number}
        if number % 2 == 0:
            turns[turn_id] = {**turn, "role": "user", "content": f"Question number {number}?"}
        else:
            ended = {"state": "complete", "error": None, "retryAfterS": None, "finishReason": "stop", "rag": None}
            turns[turn_id] = {**turn, "role": "assistant", "content": f"Answer number {number}.", "model": "handbook", **ended}
        parent = turn_id
    settings = {"engine": None, "collections": ["handbook"], "options": {}, "temperature": None}
    named = {"id": conversation_id, "owner": ""}
    return (
        {**named, "title": title, "createdAt": now, "updatedAt": now},
        {**named, "tree": {"turns": turns, "head": parent}, "settings": settings},
    )


def keep(page: Page, kept: list[tuple[dict, dict]]) -> None:
    """Put conversations into the browser, as if they had been held."""
    page.evaluate(KEEP, [[head for head, _ in kept], [body for _, body in kept]])
