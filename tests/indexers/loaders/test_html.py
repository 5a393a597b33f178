"""HTML: what is visible, in lines, in whatever encoding."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexers.loaders import html
from rag_server.errors import DocumentError
from rag_server.types import Document, Section


def _load(folder: Path, data: bytes) -> Document:
    path = folder / "page.html"
    path.write_bytes(data)
    return html.load(path)


def _text(folder: Path, page: str) -> str:
    return _load(folder, b"<meta charset=utf-8>" + page.encode()).text


@pytest.mark.parametrize(
    "hidden",
    [
        "<script>x</script>",
        "<style>x</style>",
        "<template>x</template>",
        "<noscript>x</noscript>",
        "<!-- x -->",
        "<p hidden>x</p>",
        "<div style='color:red; DISPLAY : none'><b>x</b></div>",
        "<span style='visibility:hidden'>x</span>",
        "<iframe>x</iframe>",
        "<svg><title>x</title></svg>",
    ],
)
def test_what_is_not_visible_is_dropped(tmp_path: Path, hidden: str) -> None:
    """Only what a reader of the page sees is text."""
    assert _text(tmp_path, f"<p>seen {hidden}</p>") == "seen"


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<h1>A</h1><p>b\n  c&nbsp; d</p><p>e", "A\n\nb c d\n\ne"),
        ("<p>an <b>in</b>line <i>word</i></p>", "an inline word"),
        ("<div>a<br>b</div>c", "a\nb\n\nc"),
        ("<ul><li>a</li><li>b<ul><li>c</ul></ul>d", "a\nb\n\nc\n\nd"),
        ("<a>Docs</a><a>Blog</a> <p>x<a>y</a>", "Docs Blog\n\nxy"),
        ("<p>a</p><pre>\n  def f():\n\n    return 1\n</pre><p>b", "a\n\n  def f():\n\n    return 1\n\nb"),
        ("x<pre>  a<br>  b<div>  c</div></pre>", "x\n\n  a\n  b\n  c"),
    ],
)
def test_blocks_are_lines_and_white_space_is_collapsed(tmp_path: Path, page: str, text: str) -> None:
    """Words of neighbouring blocks are not glued, inline markup does not part a word, <pre> stays as it is."""
    assert _text(tmp_path, page) == text


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ("<tr><th></th><th>B</th></tr><tr><td><p>1</p><p>2</p></td><td>3<br>4</td></tr>", "| B\n1 2 | 3 4"),
        (
            "<tr><td>a</td><td></td><td>c</td><td></td></tr><tr><td></td><td></td></tr><tr><td>d</td><td>e</td></tr>",
            "a |  | c\nd | e",
        ),
        ("<tr><td><p>alone</p><p>in its row</p></td></tr>", "alone\n\nin its row"),
        (
            "<tr><td>left</td><td>x<table><tr><td>1</td><td>2</td></tr></table>y</td><td>right</td></tr>",
            "left\n\nx\n\n1 | 2\n\ny\n\nright",
        ),
        ("<tr><td>left</td><td><h2>Head</h2><p>Body</p></td></tr>", "left\n\nHead\n\nBody"),
    ],
)
def test_a_row_is_a_line_unless_its_cells_lay_out_the_page(tmp_path: Path, table: str, text: str) -> None:
    """Cells are separated by bars and keep their column; cells around tables, headings or a whole page are blocks."""
    assert _text(tmp_path, f"<table>{table}</table>") == text


@pytest.mark.parametrize(
    ("page", "title"),
    [
        (b"<title> The\n title </title><h1>Head</h1>x", "The title"),
        (b"<title></title><h1>The <b>head</b></h1>x", "The head"),
        (b"<p>x", "page"),
    ],
)
def test_the_title_is_that_of_the_page_or_its_heading(tmp_path: Path, page: bytes, title: str) -> None:
    """<title> comes first, then <h1>, then the file's stem."""
    assert _load(tmp_path, page).title == title


def test_headings_are_sections_where_they_stand_in_the_text(tmp_path: Path) -> None:
    """Also within cells that lay out the page; hidden and empty ones are none."""
    document = _load(
        tmp_path,
        b"<meta charset=utf-8><pre>\n  a&#13;&#10;b</pre><h1>The <b>head</b><br>line</h1>x<h2 hidden>no</h2><h2></h2>"
        b"<table><tr><td>left</td><td><h6> Last </h6>Body</td></tr></table>",
    )
    assert document.text == "a\nb\n\nThe head\nline\n\nx\n\nleft\n\nLast\n\nBody"
    assert document.sections == (Section(5, "heading", "The head line", 1), Section(29, "heading", "Last", 6))
    assert document.text[5:].startswith("The head\nline")
    assert document.text[29:].startswith("Last")


PAGE = "<html><head><meta charset={}></head><body>L'été à Прага — 漢字</body></html>"


@pytest.mark.parametrize(
    ("declared", "encoding"), [("utf-8", "utf-8"), ("latin1", "utf-8-sig"), ("utf-8", "utf-16"), ("gb2312", "gb18030")]
)
def test_marks_come_before_declarations(tmp_path: Path, declared: str, encoding: str) -> None:
    """A byte order mark wins over <meta>; a declared charset is understood as browsers do."""
    data = PAGE.format(declared).encode(encoding)
    assert _load(tmp_path, data).text == "L'été à Прага — 漢字"


@pytest.mark.parametrize("declared", ["iso-8859-1", "utf-8", "no-such-charset", "rot13", "utf-16"])
def test_a_declaration_that_is_wrong_is_not_believed(tmp_path: Path, declared: str) -> None:
    """Windows-1252 behind a wrong, unknown or impossible charset is still read."""
    written = "“Où est le père de François ? Il était déjà là, près de la forêt.”"
    assert _load(tmp_path, f"<meta charset={declared}><p>{written}".encode("cp1252")).text == written


def test_a_page_nested_beyond_the_interpreters_stack_is_read(tmp_path: Path) -> None:
    """Depth costs no recursion."""
    assert _text(tmp_path, "<div>" * 5000 + "deep") == "deep"


def test_a_page_without_visible_text_is_refused(tmp_path: Path) -> None:
    """A page that only a script fills holds no text."""
    with pytest.raises(DocumentError, match=r"page\.html holds no text"):
        _text(tmp_path, "<title>App</title><div id=root></div><script>start()</script>")


TAGS = st.sampled_from(["<table>", "<td>", "</tr>", "<pre>", "<p ", "</div>", "<!--", "]]>", "é", "&#0;", " x"])


@given(data=st.binary() | st.lists(TAGS).map(lambda tags: "".join(tags).encode()))
def test_arbitrary_bytes_raise_nothing_else(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Any content is either a document or a DocumentError of one line."""
    message = ""
    try:
        _load(tmp_path_factory.mktemp("any"), data)
    except DocumentError as error:
        message = str(error)
    assert "\n" not in message
