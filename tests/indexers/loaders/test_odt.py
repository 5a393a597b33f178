"""OpenDocument text: all text in the order of the document, headings as sections."""

import zipfile
from pathlib import Path

import pytest

from indexers.loaders import odt
from rag_server.errors import DocumentError
from rag_server.types import Document, Section

NAMESPACES = " ".join(
    f'xmlns:{prefix}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
    for prefix, name in {
        "office": "office",
        "text": "text",
        "table": "table",
        "draw": "drawing",
        "manifest": "manifest",
    }.items()
)
MANIFEST = (
    f"<manifest:manifest {NAMESPACES}><manifest:file-entry manifest:full-path='content.xml'>{{}}</manifest:file-entry>"
    "</manifest:manifest>"
)
META = (
    f"<office:document-meta {NAMESPACES} xmlns:dc='http://purl.org/dc/elements/1.1/'><office:meta><dc:title>{{}}</dc:title>"
    "</office:meta></office:document-meta>"
)

NOTE = (
    "x<text:note><text:note-citation>1</text:note-citation><text:note-body><text:p>foot</text:p></text:note-body></text:note>"
)


def _load(folder: Path, body: str, title: str | None = None, encryption: str = "", doctype: str = "") -> Document:
    path = folder / "letter.odt"
    content = (
        f"<office:document-content {NAMESPACES}><office:body><office:text>{body}</office:text></office:body>"
        "</office:document-content>"
    )
    with zipfile.ZipFile(path, "w") as package:
        package.writestr("META-INF/manifest.xml", MANIFEST.format(encryption))
        package.writestr("content.xml", doctype + content)
        if title is not None:
            package.writestr("meta.xml", META.format(title))
    return odt.load(path)


def test_headings_are_sections_of_their_level(tmp_path: Path) -> None:
    document = _load(
        tmp_path,
        "<text:h text:outline-level='1'>Head</text:h><text:p>Before</text:p><text:p/>"
        "<text:section><text:h text:outline-level='2'>Sub <text:span>head</text:span></text:h>"
        "<text:p>After</text:p></text:section>",
    )
    assert document.text == "Head\n\nBefore\n\nSub head\n\nAfter"
    assert document.sections == (Section(0, "heading", "Head", 1), Section(14, "heading", "Sub head", 2))
    assert document.text[14:].startswith("Sub head")
    assert document.title == "Head"


def test_items_of_a_list_stand_on_consecutive_lines(tmp_path: Path) -> None:
    nested = "<text:list><text:list-item><text:p>one a</text:p></text:list-item></text:list>"
    items = (
        f"<text:list-item><text:p>one</text:p>{nested}</text:list-item><text:list-item><text:p>two</text:p></text:list-item>"
    )
    document = _load(tmp_path, f"<text:p>Before</text:p><text:list>{items}</text:list><text:p>After</text:p>")
    assert document.text == "Before\n\none\none a\ntwo\n\nAfter"


def test_cells_stand_between_bars_and_covered_ones_keep_their_place(tmp_path: Path) -> None:
    def row(*cells: str) -> str:
        return f"<table:table-row>{''.join(cells)}</table:table-row>"

    def cell(text: str) -> str:
        return f"<table:table-cell>{''.join(f'<text:p>{line}</text:p>' for line in text.split())}</table:table-cell>"

    head = f"<table:table-header-rows>{row(cell('a'), cell('b'), cell('c'))}</table:table-header-rows>"
    body = row(cell("1 2"), "<table:covered-table-cell/>", cell("3"))
    assert _load(tmp_path, f"<table:table>{head}{body}</table:table>").text == "a | b | c\n1 2 |  | 3"


@pytest.mark.parametrize(
    ("xml", "text"),
    [
        ("a<text:s text:c='2'/>b<text:tab/>c<text:line-break/>d", "a  b\tc\nd"),
        ("a<text:s text:c='2000000000'/>b", f"a{' ' * 100}b"),
        ("seen<office:annotation><text:p>comment</text:p></office:annotation>", "seen"),
        ("a <text:a>link</text:a> <text:bookmark/>b", "a link b"),
        ("by<draw:frame><draw:text-box><text:p>box</text:p></draw:text-box></draw:frame>", "by\n\nbox"),
        (
            NOTE,
            "x\n\nfoot",
        ),
    ],
    ids=["breaks", "many spaces", "comment", "link", "text box", "footnote"],
)
def test_what_stands_in_a_paragraph_is_read_once(tmp_path: Path, xml: str, text: str) -> None:
    assert _load(tmp_path, f"<text:p>{xml}</text:p>").text == text


def test_text_that_was_deleted_is_left_out(tmp_path: Path) -> None:
    deleted = "<text:changed-region><text:deletion><text:p>old</text:p></text:deletion></text:changed-region>"
    assert _load(tmp_path, f"<text:tracked-changes>{deleted}</text:tracked-changes><text:p>new</text:p>").text == "new"


@pytest.mark.parametrize(("stated", "title"), [("Stated", "Stated"), ("", "letter"), (None, "letter")])
def test_the_title_is_that_of_the_properties(tmp_path: Path, stated: str | None, title: str) -> None:
    assert _load(tmp_path, "<text:p>x</text:p>", stated).title == title


def test_an_encrypted_document_needs_a_password(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"letter\.odt is protected by a password; save a copy without one"):
        _load(tmp_path, "", encryption="<manifest:encryption-data/>")


def test_an_external_entity_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    doctype = f'<!DOCTYPE x [<!ENTITY e SYSTEM "file://{tmp_path / "secret"}">]>'
    assert _load(tmp_path, "<text:p>a&e;b</text:p>", doctype=doctype).text == "ab"


@pytest.mark.parametrize(("body", "reason"), [("", "holds no text"), ("<text:p>", "is not a readable OpenDocument text (")])
def test_an_empty_and_a_damaged_document_are_reported(tmp_path: Path, body: str, reason: str) -> None:
    with pytest.raises(DocumentError) as caught:
        _load(tmp_path, body)
    assert str(caught.value).startswith(f"{tmp_path / 'letter.odt'} {reason}")
    assert "\n" not in str(caught.value)


def test_any_cut_of_a_document_is_a_document_error(tmp_path: Path) -> None:
    _load(tmp_path, "<text:p>x</text:p>")
    path = tmp_path / "letter.odt"
    whole = path.read_bytes()
    for length in range(0, len(whole), 50):
        path.write_bytes(whole[:length])
        with pytest.raises(DocumentError, match="is not a readable OpenDocument text"):
            odt.load(path)
