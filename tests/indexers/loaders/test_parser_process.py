"""No file can hang, crash or fill the memory of the process that wants it read, and the next file is read."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import docx
import psutil
import pytest
import structlog
from reportlab.pdfgen.canvas import Canvas

from indexers.loaders import dispatch
from indexers.loaders.parser_process import ParserPool
from indexers.loaders.parser_protocol import MIB, Done, Failure, Limits, ProtocolError, Read, Ready, Reply, decode, encode
from rag_server.errors import DocumentError, RagServerError, UnsupportedFormatError
from rag_server.types import Document, Section

# Reads a file by running what stands in it, which is what a hostile file may come to.
EVIL_DISPATCH = """
from rag_server.types import Document, Section

def load(path, on_read, *, max_bytes):
    program = path.read_text()
    if program.startswith("#"):
        names = {"Document": Document, "Section": Section, "on_read": on_read}
        exec("def run():\\n    " + program.replace("\\n", "\\n    ") + "\\n    yield", names)
        yield from filter(None, names["run"]())
    yield Document(path.name, "", program)
"""
SECONDS = 2.0


@pytest.fixture
def evil_dispatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module by which a child runs the programs that it reads."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "evil_dispatch.py").write_text(EVIL_DISPATCH)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(modules), os.environ["PYTHONPATH"]]))
    return "evil_dispatch"


@pytest.fixture
def pool(evil_dispatch: str) -> Iterator[ParserPool]:
    """A pool of children with little memory, and time even on a busy machine."""
    with ParserPool(limits=Limits(memory_bytes=512 * MIB), dispatch=evil_dispatch) as pool:
        yield pool


@pytest.fixture
def hasty_pool(evil_dispatch: str) -> Iterator[ParserPool]:
    """A pool of children with little time."""
    with ParserPool(limits=Limits(seconds=SECONDS), dispatch=evil_dispatch) as pool:
        yield pool


def _parse(pool: ParserPool, path: Path) -> list[Document | DocumentError]:
    return list(pool.parse(path, lambda _: None))


def _program(folder: Path, text: str) -> Path:
    path = folder / "evil.txt"
    path.write_text(f"#\n{text}")
    return path


def _children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "indexers.loaders.parser_worker" in child.cmdline()]


def _check_next_file(pool: ParserPool, folder: Path) -> None:
    (folder / "good.txt").write_text("good")
    assert _parse(pool, folder / "good.txt") == [Document("good.txt", "", "good")]
    assert len(_children()) == 1


FAULTS = {
    "import os, signal; os.kill(os.getpid(), signal.SIGXCPU)": "took more than 30 s of processor time",
    "held = []\nwhile True: held.append(bytearray(10 << 20))": "needs more than 512 MiB of memory to be read; split it",
    "import ctypes; ctypes.string_at(0)": "made its parser fail (SIGSEGV); it may be damaged",
    "import os; os.abort()": "made its parser fail (SIGABRT)",
    "import os, signal; os.kill(os.getpid(), signal.SIGKILL)": "its parser was killed, as the system does when memory runs out",
    "import os; os._exit(0)": "made its parser fail (exit status 0)",
    "import sys; sys.exit(3)": "made its parser fail (exit status 3)",
    "def dive(): dive()\ndive()": "made its parser fail (RecursionError: ",
    "raise KeyError('x')": "made its parser fail (KeyError: 'x')",
    "import os; os.closerange(3, 100)": "made its parser fail (exit status ",
    "yield Document('', '', 'x' * (64 << 20) + 'x')": "holds more than 64 MiB of text; split it or leave it out",
    "yield Document('', '', 'é' * (33 << 20))": "holds more than 64 MiB of text",
}
HANGS = [
    "while True: pass",
    "import time; time.sleep(60)",
    "import ctypes; ctypes.PyDLL(None).sleep(60)",
    "while True: print('x' * 1000)",
]
# Into each open pipe, the one for replies among them.
RUBBISH = """
import os
for number in range(3, 20):
    try: os.write(number, b'%s')
    except OSError: continue
"""


def _check_error(pool: ParserPool, folder: Path, program: str, message: str) -> None:
    path = _program(folder, program)
    with pytest.raises(DocumentError) as caught:
        _parse(pool, path)
    assert str(caught.value).removeprefix(str(path)).lstrip(": ").startswith(message)
    _check_next_file(pool, folder)


@pytest.mark.parametrize("program", FAULTS)
def test_a_bad_file_is_an_error_and_the_next_one_is_read(pool: ParserPool, tmp_path: Path, program: str) -> None:
    """Whatever a parser does, the message says which limit was met, or how it failed."""
    _check_error(pool, tmp_path, program, FAULTS[program])


@pytest.mark.parametrize("program", HANGS)
def test_a_hanging_file_is_given_up(hasty_pool: ParserPool, tmp_path: Path, program: str) -> None:
    """At work or asleep, in Python or in C, quiet or talking."""
    started = time.monotonic()
    _check_error(hasty_pool, tmp_path, program, "took more than 2 s to read; split it or leave it out")
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("rubbish", ["abcdefgh", r"\0\0\0\2[]"])
def test_a_reply_that_is_none_is_an_error(pool: ParserPool, tmp_path: Path, rubbish: str) -> None:
    """A file that has taken over its parser can send what it likes."""
    _check_error(pool, tmp_path, RUBBISH % rubbish, "made its parser fail (what it answered makes no sense)")


def test_rubbish_on_standard_output_is_harmless(pool: ParserPool, tmp_path: Path) -> None:
    """From Python and from libraries in C; standard input is empty."""
    path = _program(
        tmp_path, "import os, sys; print('junk' * 50000); os.write(1, b'junk' * 50000); assert not sys.stdin.read()"
    )
    (document,) = _parse(pool, path)
    assert document.document_id == "evil.txt"
    _check_next_file(pool, tmp_path)


def test_what_a_parser_prints_is_logged(pool: ParserPool, tmp_path: Path) -> None:
    """The last line, once."""
    with structlog.testing.capture_logs() as logs:
        _parse(pool, _program(tmp_path, "print('first'); print('last', flush=True)"))
        _check_next_file(pool, tmp_path)
    assert logs == [{"event": "a parser printed", "log_level": "debug", "path": str(tmp_path / "evil.txt"), "line": "last"}]


def test_a_parser_killed_from_outside_is_replaced(pool: ParserPool, tmp_path: Path) -> None:
    """In the middle of a file that file is lost; between files nothing is."""
    path = _program(tmp_path, "yield Document('1', '', 'a')\nimport time; time.sleep(60)")
    documents = pool.parse(path, lambda _: None)
    assert next(documents) == Document("1", "", "a")
    _children()[0].kill()
    with pytest.raises(DocumentError, match="its parser was killed"):
        next(documents)
    _check_next_file(pool, tmp_path)
    (idle,) = _children()
    idle.kill()
    psutil.wait_procs([idle])
    _check_next_file(pool, tmp_path)


def test_a_child_of_a_thread_that_ended_is_not_asked_again(
    pool: ParserPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system kills it with its thread, at some moment: a file that is given to it meanwhile would be lost."""
    file = tmp_path / "a.txt"
    file.write_text("text")
    # As if the system had not got to it yet.
    monkeypatch.setattr(subprocess.Popen, "poll", lambda _: None)

    for _ in range(3):
        read: list[object] = []
        thread = threading.Thread(target=lambda read=read: read.extend(pool.parse(file, lambda _: None)))
        thread.start()
        thread.join()
        assert [loaded.text for loaded in read] == ["text"]


def test_time_counts_for_each_row_of_its_own(hasty_pool: ParserPool, tmp_path: Path) -> None:
    """A file of many rows may take longer than the limit; the time that the reader of the rows takes does not count."""
    rows = "import time\nfor n in range(4):\n    time.sleep(0.8)\n    yield Document(str(n), '', 'a')"
    assert len(_parse(hasty_pool, _program(tmp_path, rows))) == 5
    large = _program(tmp_path, "for n in range(2): yield Document(str(n), '', 'a' * 1000000)")
    documents = hasty_pool.parse(large, lambda _: None)
    next(documents)
    time.sleep(SECONDS + 0.5)
    assert len(list(documents)) == 2


def test_a_file_that_is_read_no_further_leaves_no_child_behind(pool: ParserPool, tmp_path: Path) -> None:
    """Closing the iterator ends the child, which would otherwise send the rest to the next caller."""
    documents = pool.parse(_program(tmp_path, "for n in range(9): yield Document(str(n), '', 'a')"), print)
    next(documents)
    documents.close()
    assert _children() == []
    _check_next_file(pool, tmp_path)


def test_files_are_read_by_one_child_until_it_is_replaced(tmp_path: Path) -> None:
    """Starting one takes time; libraries leak."""
    path = tmp_path / "a.txt"
    path.write_text("hello")
    with ParserPool(files_per_child=2) as pool:
        pids = []
        for _ in range(2):
            documents = pool.parse(path, print)
            next(documents)
            pids += [child.pid for child in _children()]
            assert list(documents) == []
        assert pids[0] == pids[1]
        assert _children() == []
        assert len(_parse(pool, path)) == 1
        assert len(_children()) == 1
    assert _children() == []


def test_a_child_reads_on_for_another_thread(tmp_path: Path) -> None:
    """Whoever asks may be a thread for one file alone; the child is kept for the next one."""
    path = tmp_path / "a.txt"
    path.write_text("hello")
    pids = []
    with ParserPool() as pool:
        for _ in range(2):
            thread = threading.Thread(target=_parse, args=(pool, path))
            thread.start()
            thread.join()
            pids += [child.pid for child in _children()]
    assert pids[0] == pids[1]
    assert len(pids) == 2


def test_the_system_is_asked_to_keep_the_limits(pool: ParserPool, tmp_path: Path) -> None:
    """Should the owner, who looks at the clock, be stopped; no dump of a crash and no file is left."""
    names = ["CORE", "FSIZE", "AS", "CPU"]
    limit = "resource.getrlimit(getattr(resource, 'RLIMIT_' + name))[0]"
    program = f"import resource\nfor name in {names}: yield Document(name, '', str({limit}))"
    values = {document.document_id: int(document.text) for document in _parse(pool, _program(tmp_path, program))[:-1]}
    assert values.pop("CPU") in range(31, 40)
    assert values == {"CORE": 0, "FSIZE": 16 * MIB, "AS": 512 * MIB}


def test_two_files_may_be_read_at_once(pool: ParserPool, tmp_path: Path) -> None:
    """Each by a child of its own."""
    programs = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for path in programs:
        path.write_text(f"#\nfor n in range(3): yield Document(str(n), '', '{path.name}')")
    first, second = (pool.parse(path, print) for path in programs)
    texts = [(next(first).text, next(second).text) for _ in range(3)]
    assert texts == [("a.txt", "b.txt")] * 3
    assert len(list(first)) == len(list(second)) == 1


def test_system_errors_keep_their_number(tmp_path: Path) -> None:
    """The caller tells a missing file from a damaged one."""
    with ParserPool() as pool:
        with pytest.raises(FileNotFoundError) as caught:
            _parse(pool, tmp_path / "missing.txt")
        assert (caught.value.filename, caught.value.strerror) == (str(tmp_path / "missing.txt"), "No such file or directory")
        with pytest.raises(IsADirectoryError):
            _parse(pool, tmp_path)
        (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n" + bytes(50))
        with pytest.raises(UnsupportedFormatError, match="is a picture"):
            _parse(pool, tmp_path / "a.png")
        (tmp_path / "good.txt").write_text("good")
        assert _parse(pool, tmp_path / "good.txt") == [Document("good.txt", "good", "good")]


def _write_samples(folder: Path) -> None:
    canvas = Canvas(str(folder / "a.pdf"))
    canvas.drawString(72, 700, "hello")
    canvas.save()
    word = docx.Document()
    word.add_heading("Title")
    word.add_paragraph("é 日本 \U0001f600")
    word.save(str(folder / "a.docx"))
    (folder / "a.md").write_text("# Title\n\n" + "many words " * 300_000)
    (folder / "a.html").write_text("<title>T</title><p>hello")
    (folder / "a.txt").write_text("é".encode("cp1252").decode("latin-1") * 10)
    rows = [{"_id": str(n), "text": "x" * 1000, "number": n, "share": 0.5, "yes": True} for n in range(3000)]
    (folder / "a.jsonl").write_text("\n".join([*map(json.dumps, rows), "no row"]))
    (folder / os.fsdecode(b"caf\xe9.txt")).write_text("hello")


def test_documents_are_the_same_as_in_process(tmp_path: Path) -> None:
    """Every format, several megabytes, names that are no UTF-8; progress and bad rows are told alike."""
    _write_samples(tmp_path)
    with ParserPool() as pool:
        for path in sorted(tmp_path.iterdir()):
            told: dict[str, list[int]] = {"in process": [], "in child": []}
            here = list(dispatch.load(path, told["in process"].append))
            there = list(pool.parse(path, told["in child"].append))
            assert [str(one) if isinstance(one, DocumentError) else one for one in there] == [
                str(one) if isinstance(one, DocumentError) else one for one in here
            ]
            assert told["in child"] == told["in process"]
        assert len(_children()) == 1


def test_a_large_file_is_refused(tmp_path: Path) -> None:
    """The limit reaches the loader."""
    (tmp_path / "a.txt").write_text("x" * (2 * MIB))
    with ParserPool(limits=Limits(file_bytes=MIB)) as pool, pytest.raises(DocumentError, match="has 2 MiB, more than 1 MiB"):
        _parse(pool, tmp_path / "a.txt")


def test_a_pool_that_cannot_start_says_why(tmp_path: Path) -> None:
    """That is no fault of the file."""
    with ParserPool(dispatch="no_such_module") as pool, pytest.raises(RagServerError, match="No module named 'no_such_module'"):
        _parse(pool, tmp_path / "a.txt")
    assert _children() == []


def test_modules_in_the_working_directory_are_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be the folder that is indexed, with whatever lies in it."""
    (tmp_path / "json.py").write_text("raise SystemExit(99)")
    (tmp_path / "a.txt").write_text("hello")
    monkeypatch.chdir(tmp_path)
    with ParserPool() as pool:
        assert len(_parse(pool, Path("a.txt"))) == 1


def test_a_child_dies_with_its_parent(tmp_path: Path) -> None:
    """Also when the parent is killed while the child is at work in a library."""
    (tmp_path / "busy_dispatch.py").write_text(
        "import ctypes\ndef load(path, on_read, *, max_bytes):\n    on_read(1)\n    ctypes.PyDLL(None).sleep(600)\n    yield\n"
    )
    program = (
        "import pathlib, psutil\n"
        "from indexers.loaders.parser_process import ParserPool\n"
        "tell = lambda _: print(psutil.Process().children()[0].pid, flush=True)\n"
        "list(ParserPool(dispatch='busy_dispatch').parse(pathlib.Path('a'), tell))\n"
    )
    paths = os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]])
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths}
    ) as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
    with contextlib.suppress(psutil.NoSuchProcess):
        child.wait(10)
    assert not child.is_running()


def test_an_idle_child_ends_when_its_input_does(tmp_path: Path) -> None:
    """Where the system does not end it."""
    command = [sys.executable, "-m", "indexers.loaders.parser_worker", "{}", "indexers.loaders.dispatch"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=60)
    assert done.returncode == 0
    assert decode(done.stdout[4:]) == Ready()


def test_the_child_loads_no_heavy_library() -> None:
    """It starts in a fraction of a second, and its memory is for the files."""
    program = (
        "import sys, indexers.loaders.parser_worker, indexers.loaders.dispatch;"
        "print({'torch', 'faiss', 'tantivy', 'structlog', 'sentence_transformers', 'docx', 'pypdfium2'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "set()\n"


@pytest.mark.parametrize(
    "reply",
    [
        Document("id", "title", "text \ud800", {"a": 1, "b": 0.5, "c": True, "d": "x"}, (Section(0, "page", 1.0),)),
        Document("id", "", "text", {}, (Section(0, "heading", "H", 2), Section(2, "sheet", "S"))),
        Ready(),
        Read(7),
        Done(),
        Failure("system", "no such file", 2),
    ],
)
def test_replies_are_decoded_as_they_were(reply: Reply) -> None:
    """Types of numbers included."""
    assert repr(decode(encode(reply))) == repr(reply)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff",
        b"[]",
        b'["Document", {}]',
        b'["Document", []]',
        b'["Other", {}]',
        b'["Read", {"num_bytes": "1"}]',
        b'["Failure", {"kind": "other", "message": "", "number": 0}]',
        b'["Document", {"document_id": 1, "title": "", "text": "", "sections": [], "attributes": {}}]',
        b'["Document", {"document_id": "", "title": "", "text": "", "sections": [], "attributes": []}]',
        b'["Document", {"document_id": "", "title": "", "text": "", "sections": [], "attributes": {"a": []}}]',
        b'["Document", {"document_id": "", "title": "", "text": "", "sections": [[0, "x", "y", 0]], "attributes": {}}]',
        b"[" * 100_000,
    ],
)
def test_what_is_no_reply_is_refused(payload: bytes) -> None:
    """What a hostile file makes of the parser must not reach the index."""
    with pytest.raises(ProtocolError):
        decode(payload)
