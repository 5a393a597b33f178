"""Reads a mail: its head, the best text of its body, and the names of its attachments."""

from collections.abc import Iterator
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path

from indexers.loaders import html
from indexers.loaders.builder import DocumentBuilder
from indexers.loaders.text import decode
from rag_server.errors import DocumentError
from rag_server.types import Document

HEADERS = ("From", "To", "Cc", "Subject", "Date")
# What the parser of structured headers and the decoder of bodies raise over malformed ones.
MALFORMED = (AttributeError, IndexError, LookupError, TypeError, ValueError, RecursionError)


def load(path: Path) -> Document:
    """Read an .eml file; its title is its subject."""
    mail = BytesParser(EmailMessage, policy=policy.default).parsebytes(path.read_bytes())
    subject, body = _header(mail, "Subject"), _body(path, mail)
    if not subject and not body.strip():
        raise DocumentError(f"{path} holds no text")
    builder = DocumentBuilder()
    for name in HEADERS:
        if value := _header(mail, name):
            builder.add(f"{name}: {value}", "\n")
    builder.add(body)
    if names := list(_attachments(mail)):
        builder.add("Attachments: " + ", ".join(names))
    return builder.build(path, subject)


def _header(mail: EmailMessage, name: str) -> str:
    try:
        value = str(mail.get(name, ""))
    except MALFORMED:
        value = next((str(raw) for key, raw in mail.raw_items() if key.lower() == name.lower()), "")
    return " ".join(value.split())


def _body(path: Path, mail: EmailMessage) -> str:
    """Return the plain text, or what is visible of the HTML if there is no plain text."""
    for kind in ("plain", "html"):
        try:
            part = mail.get_body((kind,))
        except MALFORMED:
            part = None
        if isinstance(part, EmailMessage) and (text := _content(path, part).strip()):
            return html.read(text).text if kind == "html" else text
    return ""


def _content(path: Path, part: EmailMessage) -> str:
    """Return the text of a part, also when its character set is unknown or wrong."""
    try:
        text = part.get_content()
    except MALFORMED:
        text = None
    if isinstance(text, str) and "\ufffd" not in text:
        return text
    data = part.get_payload(decode=True)
    return decode(path, data) if isinstance(data, bytes) else ""


def _attachments(mail: EmailMessage) -> Iterator[str]:
    for part in mail.walk():
        try:
            name = part.get_filename()
        except MALFORMED:
            name = None
        if name:
            yield " ".join(name.split())
