"""Puts a document together from blocks of text, and notes which sections start at them."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from indexers.loaders.text import clean, whole_file
from rag_server.types import Document, Section, SectionKind

BLANK_LINE = "\n\n"
# A paragraph that carries the style of a heading by mistake would be repeated with each of its chunks.
MAX_LABEL_CHARS = 200


def heading(start: int, label: str, level: int) -> Section:
    """Return the section under a heading, whose label is one line of bounded length."""
    return Section(start, "heading", " ".join(clean(label).split())[:MAX_LABEL_CHARS].rstrip(), level)


class DocumentBuilder:
    """Collects cleaned blocks, so that the offsets of sections hold in the text of the document."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._length = 0
        self._awaiting: list[Section] = []
        self.sections: list[Section] = []

    def start_section(self, kind: SectionKind, label: str | float) -> None:
        """Let a section start at the next block; one that no block follows before the next of its kind is dropped."""
        self._awaiting = [section for section in self._awaiting if section.kind != kind]
        self._awaiting.append(Section(0, kind, label))

    def add(self, block: str, gap: str = BLANK_LINE, level: int = 0, parts: Iterable[Section] = ()) -> None:
        """Append a block behind `gap`; blank ones leave no trace.

        Args:
            block: The text; white space around it is dropped, so that a section starts with a word.
            gap: What separates it from the block before it.
            level: The block is a heading of this level.
            parts: The sections within the block, which must be clean and stripped then.
        """
        block = clean(block).strip()
        if not block:
            return
        self._append(gap if self._pieces else "")
        self.sections += [replace(section, start=self._length) for section in self._awaiting]
        self._awaiting.clear()
        if level:
            self.sections.append(heading(self._length, block, level))
        self.sections += [replace(section, start=self._length + section.start) for section in parts]
        self._append(block)

    def _append(self, text: str) -> None:
        self._pieces.append(text)
        self._length += len(text)

    @property
    def text(self) -> str:
        """The blocks so far."""
        return "".join(self._pieces)

    def build(self, path: Path, title: str) -> Document:
        """Return the document that is the file at `path`."""
        return whole_file(path, title, self.text, self.sections)
