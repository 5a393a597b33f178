"""Whatever becomes of a file in the data directory, the next start is as before, repairs it and says so, or refuses by name."""

import shutil
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from eval.crash.damage import Outcome, build, contents, damages, outcome
from eval.crash.work import DATA, make_small
from eval.crash_test import PROCESSES

SEED = 3
FLIPS_PER_FILE = 4


@pytest.fixture(scope="module", params=["killed", "stopped"])
def original(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that a server left when it was killed, or when it was stopped in order."""
    directory = tmp_path_factory.mktemp("original")
    receiving, sending = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=build, args=(directory, SEED, sending), kwargs={"killed": request.param == "killed"})
    process.start()
    sending.close()
    assert receiving.recv() == "built"
    process.join()
    return directory


@pytest.fixture(scope="module")
def outcomes(original: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Outcome]:
    """What became of each damage; in processes of their own, which a damaged index may crash."""
    PROCESSES.set_forkserver_preload(["eval.crash.damage"])
    scratch = tmp_path_factory.mktemp("scratch")
    is_killed = (original / DATA / "rag.db-wal").exists()
    with ProcessPoolExecutor(2, mp_context=PROCESSES) as executor:
        expected: dict[str, Any] = executor.submit(_contents_of_copy, original, scratch).result()
        assert len(expected["words"]) > 10
        waiting = [
            executor.submit(outcome, original, scratch, damage, expected)
            for damage in damages(original / DATA, SEED, FLIPS_PER_FILE)
            # Without the log nothing hides damage in the database; the other files are the same either way.
            if is_killed or damage.file.startswith("rag.db")
        ]
        return [future.result() for future in waiting]


def _contents_of_copy(original: Path, scratch: Path) -> dict[str, Any]:
    make_small()
    return contents(Path(shutil.copytree(original, scratch / "undamaged")))


def test_directory_is_as_a_server_leaves_it(original: Path, request: pytest.FixtureRequest) -> None:
    """There is every kind of file, and after a kill a write-ahead log with changes in it."""
    names = {str(path.relative_to(original / DATA)) for path in (original / DATA).rglob("*")}

    assert {"rag.db", "rag.db.commits", "server.json", "logs/worker.log"} <= names
    assert any(name.endswith("manifest.json") for name in names)
    assert any(name.endswith("meta.json") for name in names)
    assert ("rag.db-wal" in names) == ("killed" in request.node.name)


def test_no_damage_is_served(original: Path, outcomes: list[Outcome]) -> None:
    """Hundreds of damages: not one traceback of another kind, and not one different content."""
    failed = [outcome for outcome in outcomes if outcome.kind == "failed"]

    assert failed == []
    assert len(outcomes) > (250 if (original / DATA / "rag.db-wal").exists() else 40)


def test_damage_is_met_in_every_way(outcomes: list[Outcome]) -> None:
    """Some damages hit nothing that matters, some are repaired with a warning, some are refused: the test sees all three."""
    kinds = Counter(outcome.kind for outcome in outcomes)

    assert kinds["unharmed"] > 0
    assert kinds["repaired"] > 0
    assert kinds["refused"] > 0


def test_lost_database_or_log_is_refused(original: Path, outcomes: list[Outcome]) -> None:
    """The truth store cannot be repaired from anything: without one of its files nothing is served."""
    refused = {(one.damage.file, one.damage.kind) for one in outcomes if one.kind == "refused"}
    truth = [path.name for path in (original / DATA).glob("rag.db*") if path.name in ("rag.db", "rag.db-wal")]

    assert {(name, kind) for name in truth for kind in ("remove", "cut")} <= refused
