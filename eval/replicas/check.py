"""What is there in the end, asked of each replica: all that was made, each once."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence

import httpx

from eval.replicas.fleet import Server
from eval.replicas.work import COLLECTION, Fault, Made
from rag_server.protocols import Json

TIMEOUT_S = 60.0


def check(servers: Sequence[Server], key: str, made: Made) -> list[Fault]:
    """Return what is lost or there twice, by any of the replicas."""
    faults: list[Fault] = []
    for number, server in enumerate(servers):
        headers = {"authorization": f"Bearer {key}"}
        with httpx.Client(base_url=server.url, headers=headers, timeout=TIMEOUT_S, trust_env=False) as http:
            faults += [(kind, f"{what}, says {server.name}") for kind, what in _faults(http, made)]
            # There are many, and no list of them: each is asked of one replica.
            asked = made.responses[number :: len(servers)]
            faults += [("lost", response) for response in asked if http.get(f"/v1/responses/{response}").status_code != 200]
    return faults


def _faults(http: httpx.Client, made: Made) -> Iterator[Fault]:
    uploads = list(_all(http, "/v1/files"))
    yield from _compared("upload", Counter(file["filename"] for file in uploads), made.files.values())
    (store,) = (store["id"] for store in _all(http, "/v1/vector_stores") if store["name"] == COLLECTION)
    names = {file["id"]: file["filename"] for file in uploads}
    attached = Counter(names[file["id"]] for file in _all(http, f"/v1/vector_stores/{store}/files"))
    yield from _compared("file of the collection", attached, made.files.values())
    by_file = Counter(batch["input_file_id"] for batch in _all(http, "/v1/batches"))
    yield from (("twice", f"a batch of {file_id}") for file_id, count in by_file.items() if count > 1)
    yield from (("lost", id_) for id_ in made.batches if http.get(f"/v1/batches/{id_}").status_code != 200)


def _compared(what: str, found: Counter[str], expected: Collection[str]) -> Iterator[Fault]:
    yield from (("twice", f"the {what} {name}") for name, count in found.items() if count > 1)
    yield from (("lost", f"the {what} {name}") for name in expected if name not in found)


def _all(http: httpx.Client, path: str) -> Iterator[Json]:
    """Yield the objects of all pages of a list."""
    after: dict[str, str] = {}
    while True:
        page = http.get(path, params={"limit": 100, **after}).raise_for_status().json()
        yield from page["data"]
        if not page["has_more"]:
            return
        after = {"after": page["last_id"]}
