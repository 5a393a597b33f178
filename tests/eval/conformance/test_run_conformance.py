"""The report says what is not served by name, and the command says what it lacks."""

from pathlib import Path

import pytest

from eval import run_conformance
from eval.conformance.comparison import compare
from eval.conformance.live import Endpoint
from eval.conformance.report import as_json, live_table, missing_table, refused_table, share_table, untagged_table
from eval.report import as_markdown
from rag_server.protocols import Json


def operation(group: str | None, *properties: str, **fields: object) -> Json:
    schema = {"type": "object", "properties": {name: {"type": "string"} for name in properties}}
    content = {"application/json": {"schema": schema}}
    tags = {} if group is None else {"tags": [group]}
    return {"operationId": "op", **tags, "responses": {"200": {"content": content}}, **fields}


THEIRS: Json = {
    "paths": {
        "/models": {"get": operation("Models", "object", "data")},
        "/models/cost": {"get": operation(None)},
        "/images": {"post": operation("Images")},
        "/videos": {"get": operation("Videos"), "post": operation("Videos")},
    }
}
OURS: Json = {"paths": {"/v1/models": {"get": operation("Models", "data", **{"x-refused": ["gifts"]})}}}


def test_every_gap_is_named_and_the_rest_is_counted() -> None:
    compared = compare(THEIRS, OURS, ["Models"])

    assert "| Models | 1 | 3 | 2 | 66.6700 |" in as_markdown(share_table(compared, THEIRS))
    assert "| 2 other groups (not served) | 3 |" in as_markdown(share_table(compared, THEIRS))
    assert missing_table(compared).rows == (("Models", "property", "response", "op.object", "there is no such property"),)
    assert refused_table(OURS).rows == (("op", "gifts"),)
    assert untagged_table(THEIRS, OURS).rows == (("GET /models/cost", "not served"),)


def test_endpoints_that_never_answered_are_no_success() -> None:
    good, gone = Endpoint("GET /a", "Models", [200, 200, 404]), Endpoint("GET /b", "Models")
    wrong = Endpoint("GET /c", "Models", [200], ["no id", "no id"])

    assert [row[3:] for row in live_table([good, gone, wrong]).rows] == [
        ("2 × 200, 1 × 404", "ok"),
        ("", "not there"),
        ("1 × 200", "no id"),
    ]
    assert as_json([], [wrong])["live"] == {"GET /c": {"statuses": [200], "faults": ["no id"]}}


def test_without_the_data_it_says_where_it_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["run_conformance", "--data", str(tmp_path)])

    assert run_conformance.main() == 2
    assert f"{tmp_path}/openai/openapi.yaml.gz: name the folder of the data in RAG_EVAL_DATA" in capsys.readouterr().err
