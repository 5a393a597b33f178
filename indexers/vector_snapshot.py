"""The snapshot of a vector index: body files and a manifest with their hashes, replaced last, so that it is always whole."""

import contextlib
import hashlib
import json
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from indexers import faiss_segment
from indexers.faiss_segment import Segment
from indexers.snapshot_files import Fingerprint, fingerprint, locked, replace_durably, store_errors, write_durably
from indexers.vector_state import State, empty_tail
from rag_server.types import Cursor

log = structlog.get_logger()

# A change of the layout changes it, and older snapshots are then rebuilt.
FORMAT = "rag-server-vectors-2"
MANIFEST = "manifest.json"
BODIES = ("main-*.faiss", "rows-*.bin", "*.tmp")


class VectorSnapshot:
    """The folder of one vector index. Several processes may save and load at once; each finds what one of them saved."""

    def __init__(self, folder: Path, *, dimension: int) -> None:
        self._folder = folder
        self._dimension = dimension
        # A segment never changes: while the snapshot on the disk holds it, it need not be written again.
        self._written: tuple[Segment, dict[str, Any]] | None = None

    def load(self) -> State | None:
        """Return what was saved, or None, with a warning if it is damaged."""
        with contextlib.ExitStack() as stack:
            # Where no lock can be made, nobody can write either.
            with contextlib.suppress(OSError):
                if self._folder.is_dir():
                    stack.enter_context(locked(self._folder / "lock"))
            try:
                return self._load()
            # FAISS reports a file that this version of it cannot read as RuntimeError.
            except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
                reason = f"{type(error).__name__}: {error}"
                log.warning("vector index snapshot is damaged and will be rebuilt", folder=str(self._folder), reason=reason)
                return None

    def save(self, state: State) -> None:
        """Replace what was saved; it is on the disk when this returns.

        Raises:
            StoreError: The disk is full or the folder cannot be written; the snapshot before is still there.
        """
        with store_errors("vector index", self._folder), locked(self._folder / "lock"):
            main, rows = self._reusable_main(state.main), None
            try:
                main = main or self._write_main(state.main)
                rows = self._write_rows(state)
                self._write_manifest(state, main, rows)
            finally:
                self._remove_unused()
            self._written = (state.main, main)

    def _load(self) -> State | None:
        manifest = self._manifest()
        if manifest is None:
            return None
        # FAISS reads a damaged file without complaint, or crashes on it: only what we wrote ourselves reaches it.
        for body in (manifest["main"], manifest["rows"]):
            if fingerprint(self._folder / body["name"]) != (body["bytes"], body["sha256"]):
                raise ValueError(f"the checksum of {body['name']} is not the expected one")
        path, counts = self._folder / manifest["rows"]["name"], manifest["counts"]
        sizes = np.cumsum([0, *(8 * counts[part] for part in ("main", "dead", "tail"))])
        main_ids, dead, tail_ids = (
            np.fromfile(path, np.int64, counts[part], offset=offset)
            for part, offset in zip(("main", "dead", "tail"), sizes[:3], strict=True)
        )
        vectors = np.fromfile(path, np.float32, offset=sizes[3]).reshape(len(tail_ids), self._dimension)
        main = faiss_segment.load(manifest["kind"], self._folder / manifest["main"]["name"], main_ids)
        main_dead = np.zeros(len(main_ids), np.bool_)
        main_dead[dead] = True
        self._written = (main, manifest["main"])
        tail = empty_tail(self._dimension).appended(tail_ids, vectors)
        return State(main, main_dead, tail, Cursor(manifest["chunk_id"], manifest["deletion_id"]))

    def _manifest(self) -> dict[str, Any] | None:
        """Return the manifest, or None if there is none."""
        try:
            signed = json.loads((self._folder / MANIFEST).read_bytes())
        except FileNotFoundError:
            return None
        content: dict[str, Any] = signed["content"]
        if signed["sha256"] != _signature(content):
            raise ValueError("the manifest's own checksum is not the expected one")
        if (content["format"], content["dimension"]) != (FORMAT, self._dimension):
            raise ValueError("its format or dimension is another one")
        return content

    def _reusable_main(self, main: Segment) -> dict[str, Any] | None:
        """Return the description of the body on the disk that holds `main`, unless another process has replaced it."""
        if self._written is None or self._written[0] is not main:
            return None
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            manifest = self._manifest()
            if manifest is not None and manifest["main"] == self._written[1]:
                return self._written[1]
        return None

    def _write_main(self, main: Segment) -> dict[str, Any]:
        name = f"main-{uuid.uuid4().hex}.faiss"
        return _body(name, write_durably(self._folder / name, main.save))

    def _write_rows(self, state: State) -> dict[str, Any]:
        name = f"rows-{uuid.uuid4().hex}.bin"
        alive = ~state.tail.dead
        parts = (state.main.ids, np.flatnonzero(state.main_dead), state.tail.ids[alive], state.tail.vectors[alive])
        as_bytes = [np.ascontiguousarray(part).reshape(-1).view(np.uint8).data for part in parts]
        return _body(name, write_durably(self._folder / name, lambda write: [write(part) for part in as_bytes]))

    def _write_manifest(self, state: State, main: dict[str, Any], rows: dict[str, Any]) -> None:
        content = {
            "format": FORMAT,
            "dimension": self._dimension,
            "kind": state.main.kind,
            "chunk_id": state.cursor.chunk_id,
            "deletion_id": state.cursor.deletion_id,
            "counts": {
                "main": len(state.main),
                "dead": state.num_dead_in_main,
                "tail": int(np.count_nonzero(~state.tail.dead)),
            },
            "main": main,
            "rows": rows,
        }
        signed = {"content": content, "sha256": _signature(content)}
        replace_durably(self._folder / MANIFEST, json.dumps(signed, indent=1).encode())

    def _remove_unused(self) -> None:
        """Remove the bodies of older snapshots and of saves that broke off."""
        try:
            manifest = self._manifest()
        except (OSError, ValueError, KeyError, TypeError):
            manifest = None
        used = set() if manifest is None else {manifest["main"]["name"], manifest["rows"]["name"]}
        for pattern in BODIES:
            for path in self._folder.glob(pattern):
                if path.name not in used:
                    with contextlib.suppress(OSError):
                        path.unlink()


def _body(name: str, written: Fingerprint) -> dict[str, Any]:
    return {"name": name, "bytes": written[0], "sha256": written[1]}


def _signature(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
