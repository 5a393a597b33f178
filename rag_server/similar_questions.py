"""Earlier questions with their vectors, packed into one value of the cache; the ones most like a new question."""

from typing import Any

import numpy as np
import numpy.typing as npt

from rag_server.types import Vectors

# A new question is compared with so many; of more, the oldest are forgotten.
MAX_QUESTIONS = 256
# The answer of the nearest one may be lost, those of several are not.
MAX_NEAREST = 4

Questions = npt.NDArray[Any]


def record_type(key_length: int, dimension: int) -> np.dtype[Any]:
    """Return the type of a question: the `key` of its answer, ASCII, and its unit `vector`."""
    return np.dtype([("key", f"S{key_length}"), ("vector", "<f4", (dimension,))])


def unpacked(value: bytes, record: np.dtype[Any]) -> Questions | None:
    """Return the questions, the oldest first; None if the bytes are no such records, or more than are kept."""
    if len(value) % record.itemsize or len(value) > MAX_QUESTIONS * record.itemsize:
        return None
    return np.frombuffer(value, dtype=record)


def with_question(questions: Questions, key: str, vector: Vectors) -> bytes:
    """Return the questions with a new one at the end, packed; the oldest is dropped where there are too many."""
    others = questions[questions["key"] != key.encode()][-(MAX_QUESTIONS - 1) :]
    packed: bytes = np.concatenate([others, np.array([(key.encode(), vector)], dtype=questions.dtype)]).tobytes()
    return packed


def nearest(questions: Questions, vector: Vectors, *, threshold: float) -> list[str]:
    """Return the keys of the few questions most like the vector, from the threshold on, the most like first."""
    cosines = questions["vector"] @ vector
    order = np.argsort(-cosines, kind="stable")[:MAX_NEAREST]
    return [questions["key"][place].decode("ascii", "replace") for place in order if cosines[place] >= threshold]
