"""`rag-server keys`: make, list and revoke API keys."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from rag_server import factory
from rag_server.commands import managing_keys
from rag_server.commands.managing_keys import parse_duration
from rag_server.config import load_settings
from rag_server.store import keys
from rag_server.types import Access

Run = Callable[..., tuple[int, str, str]]


@dataclass
class Clock:
    """In the place of the module `time`."""

    now: int

    def time(self) -> float:
        return self.now


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command_line: Run) -> Run:
    """Run the command line on the data directory of the test."""
    monkeypatch.setenv("RAG_DATA_DIR", str(tmp_path / "data"))
    return command_line


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


def test_key_keeps_its_scopes_expiry_and_limits(run: Run) -> None:
    """What the options say is in both forms of the list; a key without them is for everything, for ever."""
    options = ["--scope", "read", "--scope", "ask", "--expires", "30d", "--limit", "requests_per_minute=60"]
    before = int(time.time())
    made = json.loads(run("keys", "create", "reader", *options, "--limit", "tokens_per_day=1000", "--json")[1])
    run("keys", "create", "all")

    lines = sorted(run("keys", "list")[1].splitlines(), key=lambda line: "reader" not in line)
    reader, everything = sorted(json.loads(run("keys", "list", "--json")[1]), key=lambda key: key["name"], reverse=True)

    assert (reader["scopes"], reader["limits"]) == (["ask", "read"], {"requests_per_minute": 60, "tokens_per_day": 1000})
    assert 0 <= reader["expires_at"] - before - 30 * 86_400 <= 60
    assert {key: value for key, value in made.items() if key != "secret"} == reader
    assert (everything["scopes"], everything["limits"], everything["expires_at"]) == (None, {}, None)
    assert all(word in lines[0] for word in ("ask, read", "requests_per_minute=60", "tokens_per_day=1000", "valid until"))
    assert "all scopes" in lines[1]


@pytest.mark.parametrize(("duration", "seconds"), [("30d", 2_592_000), ("12h", 43_200), ("15m", 900), ("1d", 86_400)])
def test_durations_are_days_hours_or_minutes(duration: str, seconds: int) -> None:
    """A number and a letter."""
    assert parse_duration(duration) == seconds


@pytest.mark.parametrize(
    ("option", "named"),
    [
        (("--expires", "30"), "30d"),
        (("--expires", "d"), "30d"),
        (("--expires", "-1d"), "30d"),
        (("--expires", "0d"), "30d"),
        (("--expires", "9999999999d"), "30d"),
        (("--expires", "tomorrow"), "30d"),
        (("--scope", "admin"), "ask, read, write"),
        (("--limit", "requests_per_minute"), "--limit"),
        (("--limit", "requests_per_minute=many"), "integer"),
        (("--limit", "requests_per_minute=0"), "greater"),
        (("--limit", "max_body_bytes=1"), "requests_per_minute"),
        (("--limit", "speed=1"), "requests_per_minute"),
    ],
)
def test_options_that_mean_nothing_make_no_key(run: Run, option: tuple[str, str], named: str) -> None:
    """One line says what could stand there, and there is no key afterwards."""
    status, _, err = run("keys", "create", "wrong", *option)

    assert status == 1
    assert named in err
    assert len(err.splitlines()) == 1
    assert run("keys", "list")[1] == ""


def test_expired_key_opens_nothing_and_opens_no_server(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is valid to the second that it says; afterwards the server that it closed stays closed."""
    made = json.loads(run("keys", "create", "short", "--expires", "1m", "--json")[1])

    monkeypatch.setattr(keys, "time", Clock(made["expires_at"] - 1))
    before = access(tmp_path, made["secret"])
    monkeypatch.setattr(keys, "time", Clock(made["expires_at"]))
    after = access(tmp_path, made["secret"])
    store = factory.open_store(load_settings({}, data_dir=tmp_path / "data"))
    closed = store.keys.any_unrevoked()
    store.database.close()
    monkeypatch.setattr(managing_keys, "time", Clock(made["expires_at"]))

    assert (before, after, closed) == (Access(), None, True)
    assert "expired" in run("keys", "list")[1]
