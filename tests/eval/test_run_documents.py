"""Which files come out as the manifest says, and what is said of those that do not."""

import json
from pathlib import Path

import pytest

from eval import run_documents
from eval.run_documents import Outcome, Row, main
from indexers.loaders.parser_process import ParserPool
from indexers.loaders.parser_protocol import MIB, Limits

FILES = {
    "plain/a.txt": (b"hello, text", "text"),
    "plain/b.html": (b"<title>T</title><p>hello", "any"),
    "plain/rows.jsonl": (b'{"text": "hello"}\nno row\n', "text"),
    "bad/empty.txt": (b"", "empty"),
    "bad/no.odt": (b"not a zip", "error"),
    "bad/rows.jsonl": (b"no row\n", "error"),
    "bad/picture.txt": (b"\x89PNG\r\n" + bytes(50), "any"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of files that all come out as its manifest says."""
    rows = []
    for name, (data, expect) in FILES.items():
        path = tmp_path / "documents" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        rows.append({"file": name, "class": name.partition("/")[0], "expect": expect, "note": "", "check": None})
    _write_manifest(tmp_path / "documents", rows)
    return tmp_path / "documents"


def _write_manifest(folder: Path, rows: list[dict[str, object]]) -> None:
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _change(folder: Path, file: str, **values: object) -> None:
    rows = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    _write_manifest(folder, [{**row, **(values if row["file"] == file else {})} for row in rows])


def test_all_as_expected(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The folder may be named, or is found where the evaluation data is."""
    assert main([str(folder)]) == 0
    output = capsys.readouterr().out
    assert [line.split() for line in output.splitlines() if "plain" in line or "bad" in line][:2] == [
        ["│", "plain", "│", "3/3", "│", output.split("3/3")[1].split()[1], "│"],
        ["│", "bad", "│", "4/4", "│", output.split("4/4")[1].split()[1], "│"],
    ]
    assert "7/7" in output
    assert "slowest: " in output
    assert "highest memory of a parser: " in output
    monkeypatch.setenv("RAG_EVAL_DATA", str(folder.parent))
    assert main([]) == 0


@pytest.mark.parametrize(
    ("file", "expect", "message"),
    [
        ("plain/a.txt", "password", "text instead of password"),
        ("bad/empty.txt", "text", "empty instead of text: "),
        ("bad/no.odt", "empty", "error instead of empty: "),
        ("bad/rows.jsonl", "text", "error instead of text: "),
    ],
)
def test_a_mismatch_is_named_with_its_reason(
    folder: Path, capsys: pytest.CaptureFixture[str], file: str, expect: str, message: str
) -> None:
    """And makes the run fail."""
    _change(folder, file, expect=expect)
    assert main([str(folder)]) == 1
    output = capsys.readouterr().out
    assert f"{file}: {message}" in output
    assert "6/7" in output


def test_too_little_text_is_a_mismatch(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Half of what another program found is enough."""
    _change(folder, "plain/a.txt", check={"chars": 22})
    assert main([str(folder)]) == 0
    _change(folder, "plain/a.txt", check={"chars": 24})
    assert main([str(folder)]) == 1
    assert "plain/a.txt: 11 characters, fewer than 12" in capsys.readouterr().out


def test_a_crash_and_a_slow_file_are_never_as_expected() -> None:
    """Whatever the manifest expects."""
    row = Row("a", "class", "any", 0)
    assert row.mismatch(Outcome("crash", "why")) == "why"
    assert row.mismatch(Outcome("text", num_chars=1, seconds=30.1)) == "took 30.1 s, more than 30 s"
    assert row.mismatch(Outcome("error", "why")) == ""


def test_a_limit_that_is_met_is_a_crash(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing file is no better."""
    limits = Limits(memory_bytes=300 * MIB)
    monkeypatch.setattr(run_documents, "ParserPool", lambda: ParserPool(limits=limits))
    with (folder / "plain/a.txt").open("wb") as file:
        file.truncate(400 * MIB)
        file.write(b"hello")
    (folder / "bad/no.odt").unlink()
    _change(folder, "plain/a.txt", expect="any")
    assert main([str(folder)]) == 1
    output = capsys.readouterr().out
    assert "needs more than 300 MiB of memory" in output
    assert "no.odt: cannot be read: No such file or directory" in output


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (None, r"manifest\.jsonl cannot be read \(No such file or directory\); name a folder that holds it"),
        ("{", "line 1: JSONDecodeError"),
        ('{"file": "a"}', "line 1: KeyError: 'class'; correct the row"),
        ('{"file": "a", "class": "b", "expect": "c"}', "line 1: expect is 'c'; it must be one of text, empty,"),
    ],
)
def test_a_wrong_manifest_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], manifest: str | None, message: str
) -> None:
    """With the row."""
    if manifest is not None:
        (tmp_path / "manifest.jsonl").write_text(manifest)
    assert main([str(tmp_path)]) == 1
    assert message.replace("\\", "") in capsys.readouterr().err


def test_without_a_folder_the_variable_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The remedy is part of the message."""
    monkeypatch.delenv("RAG_EVAL_DATA", raising=False)
    assert main([]) == 1
    assert "RAG_EVAL_DATA is not set" in capsys.readouterr().err
