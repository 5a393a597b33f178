"""`rag-server keys`: make, list and revoke API keys."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rag_server import cli, factory
from rag_server.config import load_settings
from rag_server.types import Access

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process; return its exit status, standard output and standard error."""
    monkeypatch.setenv("RAG_DATA_DIR", str(tmp_path / "data"))

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rag-server", *arguments])
        capsys.readouterr()
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = end.code or 0
        return (status, *capsys.readouterr())

    return call


def access(tmp_path: Path, secret: str) -> Access | None:
    """For whom the store lets this secret ask."""
    store = factory.open_store(load_settings({}, data_dir=tmp_path / "data"))
    key = store.keys.find(secret)
    store.database.close()
    return None if key is None else key.access


def test_created_key_says_for_whom_it_asks(run: Run, tmp_path: Path) -> None:
    """The secret is all that goes to standard output, and opens what the options say."""
    plain = run("keys", "create", "everything")
    limited = run("keys", "create", "some", "--tenant", "acme", "--principal", "red", "--principal", "blue")

    assert plain[0] == limited[0] == 0
    assert access(tmp_path, plain[1].strip()) == Access()
    assert access(tmp_path, limited[1].strip()) == Access("acme", frozenset({"red", "blue"}))
    assert access(tmp_path, limited[1].strip()[:-1]) is None


def test_secret_is_shown_once_and_kept_nowhere(run: Run, tmp_path: Path) -> None:
    """Neither the list nor any file of the data directory holds the secret of a key."""
    secret = run("keys", "create", "one")[1].strip()

    listed = run("keys", "list")[1] + run("keys", "list", "--json")[1]

    assert "one" in listed
    assert secret not in listed
    files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert files
    assert not any(secret.encode() in path.read_bytes() for path in files)


def test_list_shows_limits_and_state(run: Run) -> None:
    """Both forms of the list tell keys apart by name, tenant, principals and whether they are revoked."""
    made = json.loads(run("keys", "create", "readers", "--tenant", "acme", "--principal", "red", "--json")[1])
    run("keys", "create", "admin")
    run("keys", "revoke", made["id"], "--yes")

    # Those of the same second stand in any order.
    lines = sorted(run("keys", "list")[1].splitlines(), key=lambda line: "readers" not in line)
    first, second = sorted(json.loads(run("keys", "list", "--json")[1]), key=lambda key: key["name"], reverse=True)

    assert made["secret"].startswith("rag-")
    assert all(word in lines[0] for word in (made["id"], "readers", "acme", "red", "revoked"))
    assert all(word in lines[1] for word in ("admin", "every file", "valid"))
    assert (first["principals"], first["tenant"], first["revoked_at"] is None) == (["red"], "acme", False)
    assert (second["principals"], second["tenant"], second["revoked_at"]) == (None, "", None)


def test_revoked_key_opens_nothing(run: Run, tmp_path: Path) -> None:
    """Revoking ends a key and no other one; doing it twice is no mistake."""
    one, other = (json.loads(run("keys", "create", name, "--json")[1]) for name in ("one", "other"))

    assert run("keys", "revoke", one["id"], "--yes")[0] == 0
    assert run("keys", "revoke", one["id"], "--yes")[0] == 0

    assert access(tmp_path, one["secret"]) is None
    assert access(tmp_path, other["secret"]) == Access()


def test_revoking_asks_and_takes_silence_for_no(run: Run, tmp_path: Path) -> None:
    """Without a terminal and without --yes nothing is revoked, and the message names --yes."""
    made = json.loads(run("keys", "create", "one", "--json")[1])

    status, _, err = run("keys", "revoke", made["id"])

    assert status == 1
    assert "--yes" in err
    assert access(tmp_path, made["secret"]) == Access()


@pytest.mark.parametrize(("answer", "revoked"), [("y\n", True), ("yes\n", True), ("n\n", False), ("\n", False), ("", False)])
def test_answer_at_the_terminal_decides(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, revoked: bool
) -> None:
    """Only a yes is taken for a yes."""
    made = json.loads(run("keys", "create", "one", "--json")[1])
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys.stdin, "readline", lambda: answer, raising=False)

    assert run("keys", "revoke", made["id"])[0] == 0

    assert (access(tmp_path, made["secret"]) is None) == revoked


def test_unknown_key_is_one_line_that_names_the_list(run: Run) -> None:
    """An id that there is not is told in one line."""
    status, _, err = run("keys", "revoke", "key_none", "--yes")

    assert status == 1
    assert len(err.splitlines()) == 1
    assert "rag-server keys list" in err
