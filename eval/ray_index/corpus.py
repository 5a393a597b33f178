"""Documents that are quick to embed: files of their own, and rows of .jsonl files."""

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# Of so many documents one is a file of its own, and one is long enough for several chunks.
PER_FILE = 4
PER_LONG = 100
ROWS_PER_FILE = 50
LONG_SENTENCES = 40
WORDS = (
    "anchor",
    "basket",
    "candle",
    "drawer",
    "engine",
    "feather",
    "garden",
    "hammer",
    "island",
    "jacket",
    "kettle",
    "ladder",
)


@dataclass(frozen=True, slots=True)
class Written:
    """A document as the store is to have it; `word` is in no other one."""

    title: str
    text: str
    word: str


# By the path of the file and the id of the document in it.
Corpus = Mapping[tuple[str, str], Written]


def write_corpus(folder: Path, num_documents: int, chooser: random.Random) -> Corpus:
    """Write so many documents into the folder and return them."""
    folder.mkdir(parents=True)
    corpus: dict[tuple[str, str], Written] = {}
    rows: list[tuple[str, Written]] = []
    for number in range(num_documents):
        word = f"u{number:07d}"
        text = _text(word, LONG_SENTENCES if number % PER_LONG == 0 else 1, chooser)
        if number % PER_FILE == 0:
            path = folder / f"note-{number:07d}.txt"
            path.write_text(text, encoding="utf-8")
            corpus[str(path), path.name] = Written(path.stem, text, word)
        else:
            rows.append((f"row-{number}", Written(f"Row {number}", text, word)))
    for start in range(0, len(rows), ROWS_PER_FILE):
        path = folder / f"rows-{start:07d}.jsonl"
        some = rows[start : start + ROWS_PER_FILE]
        lines = (json.dumps({"_id": id_, "title": written.title, "text": written.text}) for id_, written in some)
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        corpus |= {(str(path), id_): written for id_, written in some}
    return corpus


def _text(word: str, num_sentences: int, chooser: random.Random) -> str:
    sentences = [" ".join(chooser.choices(WORDS, k=chooser.randint(5, 9))).capitalize() for _ in range(num_sentences)]
    return ". ".join([f"The word of this one is {word}", *sentences]) + "."
