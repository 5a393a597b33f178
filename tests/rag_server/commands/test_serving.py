"""`rag-server serve`: on which addresses it listens without a key, and what it says about it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from rag_server import factory
from rag_server.commands import serving
from rag_server.config import load_settings
from rag_server.errors import ConfigError
from rag_server.loopback import is_loopback


class Unstarted:
    """In the place of the server: it notes where it would have listened."""

    def __init__(self) -> None:
        self.addresses: list[str] = []

    def run(self, sockets: Sequence[Any]) -> None:
        for listener in sockets:
            self.addresses.append(listener.getsockname()[0])
            listener.close()


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Run the command up to the point where it would serve; return the addresses that it listens on."""

    def run(**overrides: Any) -> list[str]:
        server = Unstarted()
        monkeypatch.setattr(serving, "_server", lambda *_, **__: server)
        engine = {"base_url": "http://127.0.0.1:1/v1"}
        serving.run_server(
            load_settings({}, data_dir=tmp_path / "data", port=0, engine=engine, **overrides), index=[], collection="docs"
        )
        return server.addresses

    return run


def make_key(tmp_path: Path) -> None:
    store = factory.open_store(load_settings({}, data_dir=tmp_path / "data"))
    store.keys.create("one")
    store.database.close()


def test_without_a_key_it_listens_on_this_machine_and_says_so(
    serve: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing has to be set for it."""
    assert serve() == ["127.0.0.1"]
    assert "listens on this machine only" in capsys.readouterr().err


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_without_a_key_it_does_not_listen_for_other_machines(serve: Callable[..., list[str]], host: str) -> None:
    """The refusal names both ways out."""
    with pytest.raises(ConfigError, match=r"rag-server keys create NAME.*RAG_AUTH__REQUIRED=false"):
        serve(host=host)


@pytest.mark.parametrize("auth", [{"required": False}, {"required": True}])
def test_whoever_decides_about_keys_may_listen_anywhere(
    serve: Callable[..., list[str]], capsys: pytest.CaptureFixture[str], auth: dict[str, bool]
) -> None:
    """A server that is open on purpose says what that means; one that requires keys is closed anyway."""
    assert serve(host="0.0.0.0", auth=auth) == ["0.0.0.0"]
    assert ("whoever reaches it" in capsys.readouterr().err) == (not auth["required"])


def test_with_a_key_it_listens_anywhere(
    serve: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first key is enough, and nothing is said about open doors."""
    make_key(tmp_path)

    assert serve(host="0.0.0.0") == ["0.0.0.0"]
    assert "this machine only" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("localhost", True),
        ("LocalHost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example.com", False),
        ("127.0.0.1.example.com", False),
        ("", False),
    ],
)
def test_loopback_is_what_only_this_machine_reaches(host: str, own: bool) -> None:
    """127.0.0.0/8 (RFC 1122), ::1 (RFC 4291) and localhost (RFC 6761)."""
    assert is_loopback(host) == own
