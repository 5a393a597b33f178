"""What is seen of a page: whom it keeps out, and pictures of it."""

from pathlib import Path
from typing import Literal

from playwright.sync_api import Page

AXE = Path(__file__).parent.parent.parent / "rag_server" / "ui" / "web" / "node_modules" / "axe-core" / "axe.min.js"
RUN_AXE = """async () => {
  const { violations } = await axe.run(document, { resultTypes: ["violations"] });
  return violations.flatMap(({ id, help, nodes }) =>
    nodes.map(({ target, failureSummary }) => `${id} (${help}) at ${target.join(" ")}: ${failureSummary}`));
}"""
PHONE = {"width": 390, "height": 844}
SCHEMES: tuple[Literal["light"], Literal["dark"]] = ("light", "dark")


def axe(page: Page) -> list[str]:
    """Return what axe-core finds wrong with the page as it is shown."""
    # Evaluated by the debugger: the page's policy lets no script in.
    page.evaluate(f"() => {{ {AXE.read_text()} }}")
    violations: list[str] = page.evaluate(RUN_AXE)
    return violations


class Pictures:
    """Pictures for the documentation; none without a folder."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def take(self, page: Page, name: str) -> None:
        """Write NAME-light.png and NAME-dark.png of what is in view."""
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            page.screenshot(path=self._folder / f"{name}-{scheme}.png", scale="css", animations="disabled", caret="hide")
        page.emulate_media(color_scheme="null")
