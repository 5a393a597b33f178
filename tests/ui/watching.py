"""Watches pages for what they must not do, whatever a document or a model says."""

import re

from playwright.sync_api import BrowserContext, ConsoleMessage, Dialog, Page, Request

REPORT_VIOLATIONS = """
addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI, sourceFile, lineNumber }) =>
  window.reportViolation(`${violatedDirective} blocks ${blockedURI} in ${sourceFile}:${lineNumber}`));
"""
# They come from the page's own origin and load nothing.
LOCAL_SCHEMES = ("data:", "blob:", "about:")


class Watch:
    """Notes requests to others, dialogs, windows, errors in scripts and on the console, and violations of the policy.

    Names of hosts lead nowhere in this browser, so that what is noted has not left the machine.
    """

    def __init__(self) -> None:
        self.noted: list[str] = []
        self._origins: list[str] = []
        self._expected: list[str] = []

    def observe(self, context: BrowserContext, origin: str) -> None:
        """Watch every page of the context; those may ask the server of that address."""
        self._origins.append(f"{origin}/")
        context.expose_binding("reportViolation", lambda _, violation: self.noted.append(f"policy: {violation}"))
        context.add_init_script(REPORT_VIOLATIONS)
        context.on("request", self._request)
        context.on("console", self._console)
        context.on("dialog", self._dialog)
        context.on("weberror", lambda error: self.noted.append(f"error: {error.error.stack or error.error}"))
        context.on("page", self._page)

    def expect(self, pattern: str) -> None:
        """Take it as right if something that matches this is noted."""
        self._expected.append(pattern)

    def unexpected(self) -> list[str]:
        return [note for note in self.noted if not any(re.search(pattern, note) for pattern in self._expected)]

    def _request(self, request: Request) -> None:
        if not request.url.startswith((*self._origins, *LOCAL_SCHEMES)):
            self.noted.append(f"request: {request.url}")

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.noted.append(f"console: {message.text} ({message.location.get('url', '')})")

    def _dialog(self, dialog: Dialog) -> None:
        self.noted.append(f"dialog: {dialog.type} {dialog.message}")
        dialog.dismiss()

    def _page(self, page: Page) -> None:
        if len(page.context.pages) > 1:
            self.noted.append(f"window: {page.url}")
