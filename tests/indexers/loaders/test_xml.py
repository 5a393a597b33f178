"""XML: the text, a line per element, and nothing from outside of the file."""

from pathlib import Path

import pytest

from indexers.loaders import xml
from rag_server.errors import DocumentError
from rag_server.types import Document


def _load(folder: Path, data: bytes | str) -> Document:
    path = folder / "data.xml"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return xml.load(path)


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("<r><c><n>US</n><n>x, \n y</n></c><c><n>CA</n></c></r>", "US\nx, y\n\nCA"),
        ("<r><p>an <b>in</b>line <i>word</i></p><p>H<sub>2</sub>O</p></r>", "an inline word\nH2O"),
        ("<r><p>see <td>a</td><td>b</td></p></r>", "see a b"),
        ("<r><!-- no --><?no no?><p><![CDATA[a < b]]></p></r>", "a < b"),
        ("<!DOCTYPE r SYSTEM 'x.dtd'><r><p>a&nbsp;b &unknown;c&amp;lt;</p></r>", "a b c&lt;"),
    ],
    ids=["records", "inline", "neighbours", "no text", "entities"],
)
def test_each_element_that_holds_text_is_a_line(tmp_path: Path, written: str, text: str) -> None:
    """Elements of the same parent stand together; those in the middle of a text are part of it."""
    assert _load(tmp_path, written).text == text


@pytest.mark.parametrize(
    ("written", "title"),
    [
        ("<r><a>x</a><article-title>The <i>title</i></article-title><title>later</title></r>", "The title"),
        ("<n:report xmlns:n='urn:n'><n:title>T</n:title></n:report>", "T"),
        ("<n:report xmlns:n='urn:n'><a>x</a></n:report>", "report"),
    ],
)
def test_the_title_is_the_first_of_that_name_or_the_root(tmp_path: Path, written: str, title: str) -> None:
    assert _load(tmp_path, written).title == title


@pytest.mark.parametrize("place", ["external entity", "parameter entity", "external dtd"])
def test_no_other_file_is_read(tmp_path: Path, place: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text('<!ENTITY e "secret">' if place != "external entity" else "secret")
    doctype = {
        "external entity": f'<!DOCTYPE r [<!ENTITY e SYSTEM "{secret.as_uri()}">]>',
        "parameter entity": f'<!DOCTYPE r [<!ENTITY % p SYSTEM "{secret.as_uri()}"> %p;]>',
        "external dtd": f'<!DOCTYPE r SYSTEM "{secret.as_uri()}">',
    }[place]
    assert _load(tmp_path, f"{doctype}<r><p>seen &e;</p></r>").text == "seen"


def test_entities_that_multiply_are_refused(tmp_path: Path) -> None:
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    with pytest.raises(DocumentError, match="is not readable XML"):
        _load(tmp_path, f'<!DOCTYPE r [<!ENTITY e0 "lol">{entities}]><r><p>a&e11;b</p></r>')


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_a_wrong_declaration_is_not_believed(tmp_path: Path, encoding: str) -> None:
    written = '<?xml version="1.0" encoding="UTF-8"?>\n<r><p>Où est le père de François ? Il était déjà là.</p></r>'
    assert _load(tmp_path, written.encode(encoding)).text == "Où est le père de François ? Il était déjà là."


@pytest.mark.parametrize("data", ["<r><p>cut", "<r>&</r>", "no XML", "<d>" * 5000 + "</d>" * 5000])
def test_damage_and_depth_without_end_are_reported(tmp_path: Path, data: str) -> None:
    with pytest.raises(DocumentError) as caught:
        _load(tmp_path, data)
    assert str(caught.value).startswith(f"{tmp_path / 'data.xml'} is not readable XML (")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", ["", " \n", "<r a='b'/>", "<r><p> </p></r>"])
def test_a_document_without_text_holds_none(tmp_path: Path, data: str) -> None:
    with pytest.raises(DocumentError, match=r"data\.xml holds no text"):
        _load(tmp_path, data)
