"""Mails: the head, the best text, the names of what is attached."""

from email.message import EmailMessage
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexers.loaders import eml
from rag_server.errors import DocumentError
from rag_server.types import Document


def _load(folder: Path, mail: EmailMessage | bytes) -> Document:
    path = folder / "mail.eml"
    path.write_bytes(mail if isinstance(mail, bytes) else mail.as_bytes())
    return eml.load(path)


def _mail(text: str = "Hello,\n\nyou.\n") -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "Ada <ada@example.org>", "bob@example.org", "Größe"
    mail["Date"] = "Fri, 16 Dec 2022 17:04:16 -0500"
    mail.set_content(text)
    return mail


HEAD = "From: Ada <ada@example.org>\nTo: bob@example.org\nSubject: Größe\nDate: Fri, 16 Dec 2022 17:04:16 -0500"


def test_head_body_and_attachments_stand_in_order(tmp_path: Path) -> None:
    mail = _mail()
    mail.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="größe.pdf")
    mail.add_attachment("not in the body", filename="notes.txt")
    document = _load(tmp_path, mail)
    assert document.text == f"{HEAD}\n\nHello,\n\nyou.\n\nAttachments: größe.pdf, notes.txt"
    assert (document.document_id, document.title, document.sections) == ("mail.eml", "Größe", ())


def test_plain_text_is_preferred_unless_it_is_blank(tmp_path: Path) -> None:
    mail = _mail("plain")
    mail.add_alternative("<p>rich</p>", subtype="html")
    assert _load(tmp_path, mail).text == f"{HEAD}\n\nplain"
    mail = _mail(" \n")
    mail.add_alternative("<style>p {}</style><p>rich <b>text</b></p>", subtype="html")
    assert _load(tmp_path, mail).text == f"{HEAD}\n\nrich text"


@pytest.mark.parametrize(
    ("declared", "encoding"), [("utf-8", "utf-8"), ("no-such-set", "utf-8"), ("us-ascii", "utf-8"), ("utf-8", "cp1252")]
)
def test_a_wrong_character_set_is_not_believed(tmp_path: Path, declared: str, encoding: str) -> None:
    written = "“Où est le père de François ? Il était déjà là, près de la forêt.”"
    head = f"Subject: s\nContent-Type: text/plain; charset={declared}\nContent-Transfer-Encoding: 8bit\n\n"
    assert _load(tmp_path, head.encode() + written.encode(encoding)).text == f"Subject: s\n\n{written}"


@pytest.mark.parametrize("data", [b"", b"\n \n", b"From: a@example.org\n\n \n"])
def test_a_mail_without_subject_and_body_holds_no_text(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(DocumentError, match=r"mail\.eml holds no text"):
        _load(tmp_path, data)


def test_a_subject_alone_is_enough(tmp_path: Path) -> None:
    assert _load(tmp_path, b"Subject: call\n me\n\n").text == "Subject: call me"


LINES = st.sampled_from(
    (
        b"From: <",
        b"From: a@[::",
        b"To: a,,;@[",
        b"To: =?x?b?=",
        b'Cc: "',
        b"Subject: =?utf-8?q?=ff",
        b"Date: x",
        b'Content-Type: multipart/mixed; boundary="b"',
        b"Content-Type: text/html; charset=\xff",
        b"Content-Type: message/rfc822",
        b"Content-Disposition: attachment; filename*=x'y",
        b"Content-Transfer-Encoding: base64",
        b"--b",
        b"--b--",
        b"",
    )
)


@given(data=st.binary() | st.lists(LINES).map(b"\n".join))
def test_arbitrary_bytes_raise_nothing_else(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Any content is either a document or a DocumentError of one line."""
    message = ""
    try:
        _load(tmp_path_factory.mktemp("any"), data)
    except DocumentError as error:
        message = str(error)
    assert "\n" not in message
