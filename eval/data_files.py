"""Opens files of evaluation data, plain or compressed, and says by name what cannot be read."""

import contextlib
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from rag_server.errors import ConfigError


@contextlib.contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """Give the UTF-8 text of a file, decompressed if its name ends in .gz.

    Raises:
        ConfigError: It is missing, or not what its name says, at whatever line this shows.
    """
    try:
        with (
            gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8", newline="") as file
        ):
            yield file
    except FileNotFoundError:
        raise ConfigError(
            f"{path} is missing; RAG_EVAL_DATA, or --data, must name a folder with evaluation data in it"
        ) from None
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}; put an undamaged copy in its place") from None
