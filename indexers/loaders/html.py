"""Reads the visible text of an HTML page: a line per block or table row, cells separated by bars."""

import re
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from selectolax.lexbor import LexborHTMLParser, LexborNode

from indexers.loaders.builder import heading
from indexers.loaders.text import clean, decode, decode_as, decode_marked, whole_file
from rag_server.types import Document, Section

CHARSET = re.compile(rb"""<meta[^<>]+charset\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)
CHARSET_SEARCH_BYTES = 16_384
# What browsers understand by these names.
BROWSER_CHARSETS = {
    "iso-8859-1": "cp1252",
    "latin1": "cp1252",
    "us-ascii": "cp1252",
    "shift_jis": "cp932",
    "x-sjis": "cp932",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "euc-kr": "cp949",
    # A page in them could not be searched for its declaration byte by byte.
    "utf-16": "utf-8",
    "utf-16le": "utf-8",
    "utf-16be": "utf-8",
}
HIDING_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
# fmt: off
INVISIBLE = frozenset((
    "audio", "canvas", "desc", "iframe", "noembed", "noframes", "noscript", "object", "script", "style", "template",
    "title", "video",
))
# Their neighbours are separate sentences, which a blank line tells the chunker.
BLOCKS = frozenset((
    "address", "article", "aside", "blockquote", "body", "caption", "center", "details", "dialog", "div", "dl",
    "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "main",
    "menu", "nav", "ol", "p", "pre", "section", "summary", "table", "ul",
))
# fmt: on
LINES = frozenset(("br", "dd", "dt", "legend", "li", "option", "select", "textarea", "tr"))
# Menus set these apart by their style, without a space between them.
CONTROLS = frozenset(("a", "button"))
CELLS = frozenset(("td", "th"))
HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")


@dataclass(frozen=True, slots=True)
class Page:
    """The title and the visible text of a page, cleaned; its sections are its headings."""

    title: str
    text: str
    sections: tuple[Section, ...]


def load(path: Path) -> Document:
    """Read an HTML page; its title is its <title> or first <h1>."""
    page = read(_decode(path, path.read_bytes()))
    return whole_file(path, page.title, page.text, page.sections)


def read(markup: str) -> Page:
    """Return what a reader sees of a page, also of one within another format."""
    page = LexborHTMLParser(markup)
    return Page(_title(page), *_visible_text(page))


def _decode(path: Path, data: bytes) -> str:
    text = decode_marked(path, data)
    declared = CHARSET.search(data[:CHARSET_SEARCH_BYTES])
    if text is None and declared:
        name = declared[1].decode("ascii", "replace").lower()
        try:
            text = decode_as(data, BROWSER_CHARSETS.get(name, name))
        except (LookupError, UnicodeError):
            text = None
    return decode(path, data) if text is None else text


def _title(page: LexborHTMLParser) -> str:
    for selector in ("head title", "h1"):
        node = page.css_first(selector)
        if node is not None and (title := node.text().strip()):
            return title
    return ""


def _visible_text(page: LexborHTMLParser) -> tuple[str, tuple[Section, ...]]:
    """Walk the page without recursion, since pages may nest as deeply as they like."""
    if page.body is None:
        return "", ()
    writer = _Writer(_cells_with_structure(page))
    pending: list[tuple[LexborNode, bool]] = [(page.body, False)]
    while pending:
        node, is_done = pending.pop()
        if is_done:
            writer.leave(node)
        elif node.is_text_node:
            writer.pieces.append(node.text_content or "")
        elif not _is_hidden(node):
            writer.enter(node)
            pending.append((node, True))
            pending.extend((child, False) for child in reversed(list(node.iter(include_text=True))))
    return writer.result()


def _is_hidden(node: LexborNode) -> bool:
    if node.tag in INVISIBLE:
        return True
    attributes = node.attributes
    return "hidden" in attributes or HIDING_STYLE.search(attributes.get("style") or "") is not None


def _cells_with_structure(page: LexborHTMLParser) -> set[int]:
    """Return, among others, the cells that lay out the page: alone in their row, or around a table or headings."""
    structured: set[int] = set()
    for node in page.css("td:only-child, th:only-child"):
        structured.add(node.mem_id)
    climbed: set[int] = set()
    for node in page.css("table, pre, h1, h2, h3, h4, h5, h6"):
        above = node.parent
        while above is not None and above.mem_id not in climbed:
            climbed.add(above.mem_id)
            above = above.parent
    return structured | climbed


class _Writer:
    """Turns the elements entered and left, and the text between them, into lines."""

    def __init__(self, structured: set[int]) -> None:
        self.structured = structured
        self.lines: list[str] = []
        self.pieces: list[str] = []
        self.cells: list[str] = []
        self.is_in_cell = False
        self.pre_depth = 0
        self.heading_line = 0
        # Line, label and level of each.
        self.headings: list[tuple[int, str, int]] = []

    def enter(self, node: LexborNode) -> None:
        if node.tag in CELLS:
            self._enter_cell(node)
        elif node.tag in BLOCKS:
            self._end_block()
        elif node.tag in LINES:
            self._end_line()
        elif node.tag in CONTROLS and node.prev is not None and node.prev.tag in CONTROLS:
            self.pieces.append(" ")
        if node.tag == "pre":
            self.pre_depth += 1
        elif node.tag in HEADINGS:
            self.heading_line = len(self.lines)

    def leave(self, node: LexborNode) -> None:
        if node.tag == "pre":
            self._leave_pre()
        elif node.tag in CELLS and self.is_in_cell:
            self.is_in_cell = False
            self.cells.append(self._take())
        elif node.tag == "tr":
            self._end_row()
        elif node.tag in BLOCKS or node.tag in CELLS:
            self._end_block()
        elif node.tag in LINES and node.tag != "br":
            self._end_line()
        if node.tag in HEADINGS and (label := " ".join(self.lines[self.heading_line :]).strip()):
            self.headings.append((self.heading_line, label, HEADINGS.index(node.tag) + 1))

    def _enter_cell(self, node: LexborNode) -> None:
        if node.mem_id in self.structured:
            self._end_row()
            self._end_block()
        else:
            self._end_line()
            self.is_in_cell = True

    def _end_line(self) -> None:
        if self.pre_depth:
            self.pieces.append("\n")
        elif self.is_in_cell:
            self.pieces.append(" ")
        elif line := self._take():
            self.lines.append(line)

    def _end_block(self) -> None:
        self._end_line()
        if self.lines and self.lines[-1] and not self.is_in_cell and not self.pre_depth:
            self.lines.append("")

    def _end_row(self) -> None:
        self._end_line()
        if any(self.cells):
            self.lines.append(" | ".join(self.cells).rstrip(" |").strip())
        self.cells.clear()

    def _leave_pre(self) -> None:
        self.pre_depth -= 1
        if not self.pre_depth:
            text = "".join(self.pieces).strip("\n").rstrip()
            self.pieces.clear()
            if text:
                self.lines += [text, ""]

    def _take(self) -> str:
        text = " ".join("".join(self.pieces).split())
        self.pieces.clear()
        return text

    def result(self) -> tuple[str, tuple[Section, ...]]:
        """Return the text and the headings in it."""
        lines = [clean(line) for line in self.lines]
        starts = [0, *accumulate(len(line) + 1 for line in lines)]
        text = "\n".join(lines)
        # Only preformatted text at the top has white space in front.
        dropped = len(text) - len(text.lstrip())
        return text.strip(), tuple(heading(starts[line] - dropped, label, level) for line, label, level in self.headings)
