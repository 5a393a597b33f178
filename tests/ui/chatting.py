"""What somebody does on the page, in words."""

from playwright.sync_api import Locator, Page, expect


def composer(page: Page) -> Locator:
    return page.get_by_role("textbox", name="Question", exact=True)


def answers(page: Page) -> Locator:
    return page.get_by_role("article", name="Answer")


def questions(page: Page) -> Locator:
    return page.get_by_role("article", name="Question")


def begin(page: Page, question: str) -> Locator:
    """Ask; return the answer, which is on its way."""
    number = answers(page).count()
    composer(page).fill(question)
    # Before the page knows the server, what is written stays where it is.
    expect(page.get_by_role("button", name="Ask", exact=True)).to_be_enabled()
    composer(page).press("Enter")
    answer = answers(page).nth(number)
    expect(answer).to_be_visible()
    return answer


def ask(page: Page, question: str) -> Locator:
    """Ask; return the answer once it has ended."""
    answer = begin(page, question)
    expect(answer).to_have_attribute("aria-busy", "false")
    return answer


def text_of(answer: Locator) -> Locator:
    """The text of an answer, without what is around it."""
    return answer.locator(".chat-text")


def mark(answer: Locator, number: int = 1) -> Locator:
    """The mark [number] of an answer, of several the first."""
    return answer.get_by_role("button", name=f"Source {number}:").first


def document(page: Page) -> Locator:
    """The viewer beside the conversation."""
    return page.get_by_role("complementary", name="Document", exact=True)


def conversations(page: Page) -> Locator:
    """The links to the conversations, the latest first."""
    return page.get_by_role("navigation", name="Main").get_by_role("list", name="Conversations").get_by_role("link")


def act(page: Page, title: str, action: str) -> None:
    """Choose something in the menu of a conversation."""
    page.get_by_role("button", name=f"Actions for {title}").click()
    page.get_by_role("menuitem", name=action).click()


def new_conversation(page: Page) -> None:
    page.get_by_role("link", name="New conversation").click()
    expect(page.get_by_role("heading", level=1, name="New conversation")).to_be_visible()
