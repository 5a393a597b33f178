"""Documents, models and names of files are strangers' words: they are shown, and nothing in them happens."""

import pytest
from playwright.sync_api import Page, expect

from tests.ui.attacks import FILENAMES, FORBIDDEN, FOREIGN, HTML, LINKS, MARKDOWN, TEXTS
from tests.ui.chatting import act, ask, conversations, document, mark, new_conversation, text_of
from tests.ui.conftest import NewSite, OpenPage
from tests.ui.site import Site, refusing
from tests.ui.watching import Watch

# It is what the answer rests on, so that its document is opened at it.
SENTENCE = "The wreck lies north of the old pier."
QUESTION = "Where does the wreck lie?"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


def assert_harmless(page: Page) -> None:
    """Nothing ran, nothing that could is in the page, and links lead to the web in a window of their own."""
    # Whatever was going to happen happens before the next frame but one.
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    assert page.evaluate("window.hacked") is None
    assert page.evaluate(FORBIDDEN) == []
    own = f"{page.evaluate('location.origin')}/#/"
    foreign = [link for link in page.evaluate(LINKS) if not link[0].startswith(own)]
    assert {tuple(link) for link in foreign} <= {(f"{FOREIGN}/page", "_blank", "noreferrer noopener")}


def as_html(body: str) -> str:
    return f"<!doctype html><html><head><title>Wreck</title></head><body><h1>Wreck</h1><p>{SENTENCE}</p>\n{body}</body></html>"


def as_markdown(body: str) -> str:
    return f"# Wreck\n\n{SENTENCE}\n\n{body}\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("wreck.html", as_html("\n".join(HTML))),
        ("wreck.md", as_markdown("\n\n".join(TEXTS))),
        ("wreck.txt", f"{SENTENCE}\n" + "\n".join(TEXTS)),
    ],
)
def test_a_hostile_document_is_shown_and_does_nothing(new_site: NewSite, open_page: OpenPage, name: str, content: str) -> None:
    """In the answer, its quote, its sources, and in every view of the document."""
    with new_site() as site:
        store = site.collection("handbook", {name: content})
        page = open_page(site.url)
        expect(page.get_by_role("button", name="Collections: handbook")).to_be_visible()
        answer = ask(page, QUESTION)
        expect(text_of(answer)).to_contain_text(SENTENCE)
        answer.get_by_role("button", name="Sources (").click()
        answer.get_by_role("button", name="How the passages were found").click()
        assert_harmless(page)

        mark(answer).click()
        shown = document(page)
        expect(shown.locator("mark").first).to_contain_text(SENTENCE)
        assert_harmless(page)
        for view in ("Text", "Passages"):
            shown.get_by_role("tab", name=view).click()
            expect(shown.get_by_role("tabpanel")).to_contain_text(SENTENCE)
            assert_harmless(page)

        page.goto(f"/#/collections/{store}")
        search = page.get_by_role("searchbox", name="Search in this collection")
        search.fill("wreck hacked script")
        search.press("Enter")
        expect(page.locator(".kn-hits").get_by_role("listitem").first).to_be_visible()
        assert_harmless(page)


def test_hostile_answers_are_shown_and_do_nothing(page: Page, server: Site) -> None:
    """Whatever a model writes, markup is text, and links lead to the web or nowhere."""
    server.engine(answer="\n\n".join(TEXTS))
    answer = ask(page, QUESTION)

    expect(text_of(answer)).to_contain_text("<script>window.hacked=1</script>")
    expect(text_of(answer)).to_contain_text("[image: picture]")
    assert_harmless(page)


def test_each_attack_alone_does_nothing(page: Page, server: Site) -> None:
    """None of them needs the others to come before it, or is kept from working by them."""
    for attack in TEXTS:
        server.engine(answer=attack)
        ask(page, QUESTION)
        assert_harmless(page)
        new_conversation(page)


def test_an_attack_in_the_question_does_nothing(page: Page) -> None:
    """What somebody was talked into asking is shown as it was written, as the title too."""
    question = f"{HTML[0]} {HTML[2]} {MARKDOWN[0]}"
    ask(page, question)

    expect(page.get_by_role("article", name="Question")).to_contain_text(HTML[2])
    expect(conversations(page)).to_have_count(1)
    assert_harmless(page)
    page.reload()
    expect(page.get_by_role("article", name="Question")).to_contain_text(HTML[2])
    assert_harmless(page)


def test_names_with_markup_are_text(new_site: NewSite, open_page: OpenPage) -> None:
    """Names of files and collections are shown as they are, wherever they stand."""
    with new_site() as site:
        name = "<img src=x onerror=window.hacked=1>"
        store = site.collection(name, {filename: f"{SENTENCE} {number}\n" for number, filename in enumerate(FILENAMES)})
        page = open_page(site.url)
        expect(page.get_by_role("button", name=f"Collections: {name}")).to_be_visible()
        answer = ask(page, QUESTION)
        answer.get_by_role("button", name="Sources (").click()
        answer.get_by_role("button", name="How the passages were found").click()
        mark(answer).hover()
        expect(page.get_by_label("Quote", exact=True)).to_contain_text("wreck")
        mark(answer).click()
        expect(document(page)).to_contain_text(SENTENCE)
        assert_harmless(page)
        for address in ("/#/collections", f"/#/collections/{store}"):
            page.goto(address)
            expect(page.get_by_role("main").or_(page.locator(".kn-view")).first).to_contain_text(name)
            assert_harmless(page)
        expect(page.get_by_role("region", name="Files", exact=True)).to_contain_text(FILENAMES[1])


def test_messages_of_a_hostile_engine_are_text(page: Page, server: Site, watch: Watch) -> None:
    """What the engine says of a failure is shown as text."""
    watch.expect(r"status of \d+")
    server.replace_engine(refusing(400, message=HTML[2]))
    answer = ask(page, QUESTION)

    expect(answer.get_by_role("alert")).to_contain_text("onerror")
    assert_harmless(page)


def test_an_exported_conversation_is_a_file_of_its_own(page: Page, server: Site) -> None:
    """A title with a path in it names a file, and leads to no other folder."""
    ask(page, "../../etc/passwd <b>?")
    with page.expect_download() as download:
        act(page, "../../etc/passwd <b>?", "Export as Markdown")

    assert download.value.suggested_filename == "etcpasswd-b.md"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.html", as_html("<table>" + "<tr><td>a</td><td>b</td></tr>" * 20_000 + "</table>")),
        ("rows.md", as_markdown("| a | b |\n| --- | --- |\n" + "| one | two |\n" * 20_000)),
        ("columns.md", as_markdown("|" + " a |" * 3000 + "\n|" + " - |" * 3000 + "\n|" + " b |" * 3000)),
        ("deep.html", as_html("<div>" * 5000 + "deep" + "</div>" * 5000)),
        ("deep.md", as_markdown(">" * 3000 + " deep")),
    ],
)
def test_an_enormous_document_leaves_the_page_at_work(
    new_site: NewSite, open_page: OpenPage, watch: Watch, name: str, content: str
) -> None:
    """Of what is too large or too deep to lay out there is the text; the page goes on answering."""
    # What cannot be laid out is noted by React, and caught.
    watch.expect(r"(?s)console: .*(MarkdownView|HtmlView)")
    with new_site() as site:
        site.collection("handbook", {name: content})
        page = open_page(site.url)
        expect(page.get_by_role("button", name="Collections: handbook")).to_be_visible()
        mark(ask(page, QUESTION)).click()
        shown = document(page)
        expect(shown.locator("mark").first.or_(shown.get_by_role("button", name="Show the text"))).to_be_visible()

        shown.get_by_role("tab", name="Text").click()
        expect(shown.locator("mark").first).to_contain_text(SENTENCE)
        shown.get_by_role("button", name="Close document").click()
        expect(text_of(ask(page, QUESTION))).to_contain_text(SENTENCE)


def test_every_response_has_the_security_headers(handbook: Site) -> None:
    """Pages, assets, answers, streams, refusals and redirections: none is without."""
    handbook.engine()
    client = handbook.live.client
    index = client.get("/", headers={"accept": "text/html"})
    asset = index.text.split('src="')[1].split('"')[0]
    asked = {"model": "rag/handbook", "messages": [{"role": "user", "content": QUESTION}]}
    passage = handbook.ask(QUESTION)["rag"]["passages"][0]["id"]
    responses = {
        "page": (index, 200),
        "asset": (client.get(asset), 200),
        "no asset": (client.get("/ui/assets/none.js"), 404),
        "no address": (client.get("/none"), 404),
        "list": (client.get("/v1/models"), 200),
        "answer": (client.post("/v1/chat/completions", json=asked), 200),
        "stream": (client.post("/v1/chat/completions", json={**asked, "stream": True}), 200),
        "bad request": (client.post("/v1/chat/completions", content=b"{"), 400),
        "foreign page": (client.get("/v1/models", headers={"origin": FOREIGN}), 403),
        "wrong method": (client.put("/v1/models"), 405),
        "passage": (client.get(f"/v1/passages/{passage}"), 200),
        "original": (client.get(f"/v1/passages/{passage}/original"), 200),
        "redirection": (client.get(f"/v1/passages/{passage}", headers={"accept": "text/html"}), 303),
        "readiness": (client.get("/ready"), 200),
        "metrics": (client.get("/metrics"), 200),
        "description": (client.get("/openapi.json"), 200),
    }

    assert {name: response.status_code for name, (response, _) in responses.items()} == {
        name: status for name, (_, status) in responses.items()
    }
    for name, (response, _) in responses.items():
        assert {key: response.headers.get(key) for key in SECURITY} == SECURITY, name


def test_the_original_is_never_a_page_of_this_server(new_site: NewSite) -> None:
    """An uploaded page is handed out as a file to keep, so that it cannot run with this server's name."""
    with new_site() as site:
        site.collection("handbook", {"wreck.html": as_html(HTML[0])})
        passage = site.ask(QUESTION)["rag"]["passages"][0]["id"]
        response = site.live.client.get(f"/v1/passages/{passage}/original")

    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["content-disposition"].startswith("attachment")
    assert response.text == as_html(HTML[0])
