"""The report of conformance: shares, every missing item by name, live answers, and what is refused though described."""

from collections import Counter
from collections.abc import Sequence

from eval.conformance.comparison import Comparison
from eval.conformance.descriptions import GROUPS, METHODS, operations
from eval.conformance.live import Endpoint
from eval.report import Table
from rag_server.protocols import Json

REFUSED = "x-refused"
METHOD = (
    "An item is an operation, a parameter, a property of a request or of a success, or a value of an enumeration.",
    "References, allOf, anyOf and oneOf are followed to the end. A named schema counts once per group and direction.",
    "An item is served if ours has it with the same type at every place where OpenAI's has it.",
    "A request's property may not be demanded where OpenAI does not; an answer's not be missing where OpenAI promises it.",
    "A variant is met by the one of ours whose constants agree, and of those the one that shares most properties.",
    "Values that stand beside free text (names of models) are suggestions and not counted.",
    "Null is not asked of answers and addresses. A string of bytes (the content of a file) may have any media type.",
    "Below a property that ours lacks nothing else counts, unless it is described nowhere else: a gap is one gap.",
    "The paths with `?beta=true` describe the same endpoints again and are left out.",
    "In live answers, oneOf is checked as anyOf.",
)


def share_table(compared: Sequence[Comparison], theirs: Json) -> Table:
    """Return the shares, also those of what is not served."""
    counts = Counter(operation.group for operation in operations(theirs))
    rows = [
        (one.group, counts[one.group], len(one.items), len(one.items) - len(one.missing), round(100 * one.share, 2))
        for one in compared
    ]
    rest = sorted(group for group in counts if group and group not in GROUPS)
    elsewhere = (f"{len(rest)} other groups (not served)", sum(counts[group] for group in rest), None, 0, 0.0)
    columns = ("group", "operations", "items", "served", "share in %")
    return Table("Share of OpenAI's description served", columns, (*rows, elsewhere))


def untagged_table(theirs: Json, ours: Json) -> Table:
    """Return the operations that OpenAI puts in no group, under the paths of the groups that are served."""
    served = {operation.key for operation in operations(ours)}
    roots = {operation.path.split("/")[1] for operation in operations(theirs) if operation.group in GROUPS}
    rows = tuple(
        (f"{operation.method.upper()} {operation.path}", "served" if operation.key in served else "not served")
        for operation in operations(theirs)
        if operation.group is None and operation.path.split("/")[1] in roots
    )
    return Table("Operations without a group, beside those that are served", ("operation", ""), rows)


def missing_table(compared: Sequence[Comparison]) -> Table:
    """Return everything that is not served, by name."""
    rows = tuple(
        (one.group, item.kind, item.direction, item.name, "; ".join(faults))
        for one in compared
        for item, faults in sorted(one.missing.items(), key=lambda pair: (pair[0].kind, pair[0].direction, pair[0].name))
    )
    return Table("Not served", ("group", "kind", "of the", "name", "why"), rows)


def live_table(endpoints: Sequence[Endpoint]) -> Table:
    """Return one line per endpoint that was driven."""
    rows = tuple((one.group, one.name, len(one.statuses), _statuses(one), one.verdict) for one in endpoints)
    return Table("Live answers checked against OpenAI's description", ("group", "endpoint", "answers", "statuses", ""), rows)


def refused_table(ours: Json) -> Table:
    """Return what OpenAI's types allow and this server refuses, as its own description says."""
    rows = tuple(
        (item[method]["operationId"], words)
        for _, item in sorted(ours["paths"].items())
        for method in METHODS
        if method in item
        for words in item[method].get(REFUSED, ())
    )
    return Table("Described, but refused at run time", ("operation", "what"), rows)


def as_json(compared: Sequence[Comparison], endpoints: Sequence[Endpoint]) -> Json:
    """Return the results for programs."""
    return {
        "groups": {
            one.group: {
                "items": len(one.items),
                "share": one.share,
                "missing": sorted(f"{item.kind} {item.direction} {item.name}" for item in one.missing),
            }
            for one in compared
        },
        "live": {one.name: {"statuses": one.statuses, "faults": sorted(set(one.faults))} for one in endpoints},
    }


def _statuses(endpoint: Endpoint) -> str:
    return ", ".join(f"{count} × {status}" for status, count in sorted(Counter(endpoint.statuses).items()))
