"""The documentation says what the program does."""

import re
import subprocess
from pathlib import Path

from typer.main import get_command

from rag_server import cli
from rag_server.config import setting_names

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_settings_page_lists_every_setting() -> None:
    """docs/settings.md has a row for each setting, with its default and meaning, and no other."""
    rows = []
    for name, default, description in setting_names():
        shown = "" if default is None else default if name == "RAG_DATA_DIR" else f"`{default}`"
        rows.append(f"| `{name}` | {shown} | {description} |")
    page = (ROOT / "docs" / "settings.md").read_text()

    assert [line for line in page.splitlines() if line.startswith("| `RAG_")] == rows


def test_named_settings_commands_and_targets_exist() -> None:
    """Every RAG_ name, rag-server command and make target that a page names exists."""
    settings = {name for name, _, _ in setting_names()} | {"RAG_CONFIG", "RAG_EVAL_DATA"}
    commands = set(get_command(cli.app).commands)
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for page in PAGES:
        text = page.read_text()

        assert set(re.findall(r"\bRAG_[A-Z_]+\b", text)) <= settings, page
        assert set(re.findall(r"`rag-server ([a-z-]+)", text)) <= commands, page
        for line in re.findall(r"(?:^ {4}|`)make ([a-z -]+)", text, re.MULTILINE):
            assert set(line.split()) <= targets, (page, line)


def test_make_prints_help() -> None:
    """`make` alone lists the targets with what they do."""
    help_text = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert "serve" in help_text
    assert "Run the tests" in help_text
