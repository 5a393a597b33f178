"""What the parser process and its owner say to each other: frames of JSON behind their length.

JSON, because a parser that a hostile file has taken over must not be able to make its owner run anything.
"""

import json
from dataclasses import asdict, dataclass
from typing import IO, Any, Literal, get_args

from rag_server.errors import DocumentError
from rag_server.types import Document, Section, SectionKind

LENGTH_BYTES = 4
MIB = 1024 * 1024
# Who could not go on: the loader, for the file's sake; the system; the memory; the loader, by a fault of its own.
FailureKind = Literal["document", "unsupported", "system", "memory", "fault"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a file may take. `seconds` are for a file, or for a row of a file that is read row by row."""

    seconds: float = 30.0
    memory_bytes: int = 2048 * MIB
    file_bytes: int = 512 * MIB
    # Of a document as it is sent, which is its text and little else.
    text_bytes: int = 64 * MIB


@dataclass(frozen=True, slots=True)
class Ready:
    """The parser has started."""


@dataclass(frozen=True, slots=True)
class Read:
    """So many bytes of the file are read."""

    num_bytes: int


@dataclass(frozen=True, slots=True)
class Done:
    """The file is read to its end."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The file as a whole cannot be read. `number` is the system's number of the error, if it was one."""

    kind: FailureKind
    message: str
    number: int = 0


# A document error among them is that of one row.
Reply = Ready | Document | DocumentError | Read | Done | Failure


class ProtocolError(Exception):
    """What came through the pipe is no reply."""


def write_frame(stream: IO[bytes], payload: bytes) -> None:
    """Send one message now."""
    stream.write(len(payload).to_bytes(LENGTH_BYTES, "big") + payload)
    stream.flush()


def read_frame(stream: IO[bytes]) -> bytes | None:
    """Return the next message, None when the other side is gone."""
    length = stream.read(LENGTH_BYTES)
    if len(length) < LENGTH_BYTES:
        return None
    return stream.read(int.from_bytes(length, "big"))


def encode(reply: Reply) -> bytes:
    """Return a reply as the payload of a frame."""
    fields: dict[str, Any]
    if isinstance(reply, DocumentError):
        fields = {"message": str(reply)}
    elif isinstance(reply, Document):
        sections = [(section.start, section.kind, section.label, section.level) for section in reply.sections]
        fields = {"document_id": reply.document_id, "title": reply.title, "text": reply.text, "sections": sections}
        fields["attributes"] = dict(reply.attributes)
    else:
        fields = asdict(reply)
    # File names may hold lone surrogates, which stand for the bytes that are no UTF-8.
    return json.dumps([type(reply).__name__, fields], ensure_ascii=False).encode("utf-8", "surrogatepass")


def decode(payload: bytes) -> Reply:
    """Return the reply in a frame.

    Raises:
        ProtocolError: It is none.
    """
    try:
        name, fields = json.loads(payload.decode("utf-8", "surrogatepass"))
        match name:
            case "Document":
                return _document(**fields)
            case "Failure":
                return _failure(**fields)
            case "Read":
                return Read(_checked(fields["num_bytes"], int))
            case "DocumentError" | "UnsupportedFormatError":
                return DocumentError(_checked(fields["message"], str))
            case "Ready":
                return Ready()
            case "Done":
                return Done()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ProtocolError(f"{type(error).__name__}: {error}") from error
    raise ProtocolError(f"no reply is named {name!r}")


def _document(*, document_id: Any, title: Any, text: Any, sections: Any, attributes: Any) -> Document:
    values = {_checked(key, str): _checked(value, str, int, float, bool) for key, value in attributes.items()}
    return Document(
        document_id=_checked(document_id, str),
        title=_checked(title, str),
        text=_checked(text, str),
        attributes=values,
        sections=tuple(_section(*section) for section in sections),
    )


def _section(start: Any, kind: Any, label: Any, level: Any) -> Section:
    if kind not in get_args(SectionKind):
        raise ValueError(f"no section is a {kind!r}")
    return Section(_checked(start, int), kind, _checked(label, str, int, float), _checked(level, int))


def _failure(*, kind: Any, message: Any, number: Any) -> Failure:
    if kind not in get_args(FailureKind):
        raise ValueError(f"no failure is a {kind!r}")
    return Failure(kind, _checked(message, str), _checked(number, int))


def _checked(value: Any, *types: type) -> Any:
    if not isinstance(value, types):
        raise TypeError(f"a {type(value).__name__} in the place of a {types[0].__name__}")
    return value
