"""Source code: the text is the file, the title its name."""

from pathlib import Path

from indexers.loaders import source_code
from rag_server.types import Document


def test_the_text_is_the_file_and_the_title_its_name(tmp_path: Path) -> None:
    """The suffix tells the language, and indentation stays."""
    path = tmp_path / "main.py"
    path.write_bytes(b"\tdef f():\r\n\t\treturn 1\n")
    assert source_code.load(path) == Document("main.py", "main.py", "\tdef f():\n\t\treturn 1\n")
