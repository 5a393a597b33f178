"""The scripted engine's answer to a listwise ranking prompt, in either format of `rerankers/listwise_format.py`."""

import re
from collections.abc import Sequence

# "[3] text" and "Passage C: text", each on a line of its own, and the query after all of them.
_NUMBERED = re.compile(r"^\[(\d+)\] (.*)$", re.MULTILINE)
_LABELLED = re.compile(r"^Passage (\S+): (.*)$", re.MULTILINE)
_QUERY = re.compile(r"^(?:Search )?Query: (.*)$", re.MULTILINE)
_WORD = re.compile(r"\w+")


def scripted_order(prompt: str) -> list[str] | None:
    """Return the identifiers by falling number of words that their passages share with the query, None if it is no ranking."""
    query = _QUERY.search(prompt)
    passages = _NUMBERED.findall(prompt) if "Search Query:" in prompt else _LABELLED.findall(prompt)
    if query is None or not passages:
        return None
    asked = set(_WORD.findall(query.group(1).lower()))
    shared = {identifier: len(asked & set(_WORD.findall(text.lower()))) for identifier, text in passages}
    return sorted(shared, key=lambda identifier: -shared[identifier])


def scripted_ranking(prompt: str) -> str | None:
    """Return the order as the prompt asks for it."""
    order = scripted_order(prompt)
    if order is None:
        return None
    return " > ".join(f"[{number}]" for number in order) if order[0].isdigit() else " ".join(order)


def first_token_logprobs(prompt: str, tokens: Sequence[tuple[int, str]]) -> list[dict[str, object]]:
    """Return one entry per asked token, whose log-probability falls with the place of its identifier in the order."""
    place = {identifier: rank for rank, identifier in enumerate(scripted_order(prompt) or ())}
    return [{"token": f"token_id:{id_}", "logprob": -float(place.get(text.strip(), len(place)))} for id_, text in tokens]
