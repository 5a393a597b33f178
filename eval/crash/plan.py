"""What the crash test's parent knows: the operations to come, drawn from a seed, and what they must have left behind."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from eval.crash.check import UNIQUE_WORD, Allowed, Expected, FileState
from eval.crash.work import DIMENSIONS, KINDS, Operation

FILLER = ("water", "stone", "paper", "north", "garden", "signal", "engine", "river", "copper", "window")
WORDS_PER_SENTENCE = 10
MAX_FILES = 6


@dataclass
class Model:
    """A plain record of a data directory: what was acknowledged, and what was being done when the process was killed."""

    chooser: random.Random
    files: dict[str, FileState] = field(default_factory=dict)
    model: str = "a"
    in_flight: Operation | None = None
    # Every word that was ever handed to the store.
    words: set[str] = field(default_factory=set)
    num_names: int = 0
    num_words: int = 0

    def draw(self, kind: str) -> Operation:
        """Return an operation of that kind, or of the kind that it needs to have been done first."""
        uploads = [name for name, state in self.files.items() if state.is_upload]
        own = sorted(self.files.keys() - uploads)
        if kind in ("ingest", "upload"):
            self.num_names += 1
            name = f"{kind}-{self.num_names}.jsonl"
            return Operation(kind, name, self._rows(), {"edition": "1"})
        if kind == "model change":
            other = next(model for model in DIMENSIONS if model != self.model)
            return Operation(kind, model=other, drops_other_models=self.chooser.random() < 0.5)
        if kind in ("snapshot", "compaction"):
            return Operation(kind)
        candidates = own if kind == "update" else sorted(self.files)
        return self._draw_change(kind, self.chooser.choice(candidates)) if candidates else self.draw("ingest")

    def _draw_change(self, kind: str, name: str) -> Operation:
        state = self.files[name]
        if kind == "delete":
            return Operation(kind, name)
        if kind == "attributes":
            return Operation(kind, name, state.rows, {"edition": str(self.chooser.randrange(1000))})
        return Operation(kind, name, self._updated(state.rows), state.attributes)

    def draw_any(self) -> Operation:
        """Return an operation that keeps the directory small and its indexes busy."""
        if len(self.files) < 2:
            return self.draw("ingest")
        if len(self.files) > MAX_FILES:
            return self.draw("delete")
        return self.draw(self.chooser.choice(KINDS))

    def begin(self, operation: Operation) -> None:
        """Note that the operation may be there from now on, or not."""
        self.in_flight = operation
        self.words |= _words(operation.rows)

    def acknowledge(self) -> None:
        """Note that the operation in flight is there from now on."""
        operation, self.in_flight = self.in_flight, None
        if operation is not None:
            self.files = self._files_after(operation)
            self.model = operation.model or self.model

    def expected(self) -> Expected:
        """Return what the directory may hold now."""
        operation = self.in_flight
        after = self.files if operation is None else self._files_after(operation)
        names = {*self.files, *after}
        files = {name: _allowed(self.files.get(name), after.get(name), name, operation) for name in names}
        states = (state for allowed in files.values() for state in allowed if state is not None)
        models = {self.model, operation.model or self.model} if operation else {self.model}
        living = {word for state in states for word in _words(state.rows)}
        return Expected(files, frozenset(f"hash-{model}" for model in models), frozenset(self.words - living))

    def _files_after(self, operation: Operation) -> dict[str, FileState]:
        files = dict(self.files)
        if operation.kind == "delete":
            files.pop(operation.filename, None)
        elif operation.kind == "attributes":
            files[operation.filename] = replace(files[operation.filename], attributes=operation.attributes)
        elif operation.filename:
            is_upload = operation.kind == "upload"
            files[operation.filename] = FileState(operation.rows, operation.attributes, is_upload=is_upload)
        return files

    def _rows(self) -> dict[str, str]:
        self.num_names += 1
        return {f"document-{self.num_names}-{number}": self._text() for number in range(self.chooser.randrange(1, 6))}

    def _updated(self, rows: Mapping[str, str]) -> dict[str, str]:
        """Return the rows with one left out, one changed and one new."""
        names = list(rows)
        self.chooser.shuffle(names)
        kept = {name: rows[name] for name in names[1:]} | self._rows()
        if len(names) > 1:
            kept[names[1]] = self._text()
        return kept

    def _text(self) -> str:
        return " ".join(self._sentence() for _ in range(self.chooser.randrange(1, 6)))

    def _sentence(self) -> str:
        self.num_words += 1
        filler = " ".join(self.chooser.choice(FILLER) for _ in range(WORDS_PER_SENTENCE))
        return f"Common u{self.num_words:06d} {filler}."


def _words(rows: Mapping[str, str]) -> set[str]:
    return {word for text in rows.values() for word in UNIQUE_WORD.findall(text)}


def _allowed(before: FileState | None, after: FileState | None, name: str, operation: Operation | None) -> Allowed:
    return (before, after) if operation is not None and operation.filename == name else (before,)
