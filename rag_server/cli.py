"""The command line: `rag-server serve | index | search | ask | batch | migrate-index | keys | models | doctor`."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from rag_server.config import IndexKind, RerankKind, load_settings
from rag_server.errors import InvalidRequestError, RagServerError
from rag_server.model_evaluation import ModelKind
from rag_server.observability import configure_logging

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Answer questions from your own documents. Every setting is an environment variable; `rag-server doctor` lists them.",
)

keys = typer.Typer(no_args_is_help=True, help="API keys: who may ask, and which documents they may read.")
app.add_typer(keys, name="keys")
models = typer.Typer(no_args_is_help=True, help="Trained models: each is kept with its evaluation.")
app.add_typer(models, name="models")

Collection = Annotated[str, typer.Option("--collection", "-c", help="The collection's name.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before anything is removed.")]
Filter = Annotated[
    str | None,
    typer.Option("--filter", metavar="JSON", help='Search only where it holds: {"type": "eq", "key": "year", "value": 2024}'),
]
Rerank = Annotated[
    RerankKind | None,
    typer.Option(help="Order the candidates by this reranker instead of the configured one.", show_default=False),
]


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes any free one.")] = None,
    index: Annotated[list[Path] | None, typer.Option(help="Index this file or folder first; may be repeated.")] = None,
    collection: Annotated[str, typer.Option("--collection", "-c", help="The collection for --index.")] = "docs",
) -> None:
    """Start everything: the server, its page, and the engine beside it."""
    from rag_server.commands.serving import run_server

    configure_logging(level="info")
    run_server(load_settings(host=host, port=port), index=index or [], collection=collection)


@app.command()
def index(
    collection: Collection,
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Files and folders; rows of a .jsonl are documents of their own.")
    ] = None,
    attribute: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="An attribute of the files, for filters; may be repeated.")
    ] = None,
    principal: Annotated[
        list[str] | None, typer.Option(help="Only API keys with this principal may read the files; may be repeated.")
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Then remove from the collection what is gone from the folders.")
    ] = False,
    change_model: Annotated[
        bool, typer.Option("--change-model", help="Give the collection the vectors of the configured embedding model.")
    ] = False,
    drop_old_vectors: Annotated[
        bool, typer.Option("--drop-old-vectors", help="After --change-model, delete those of other models.")
    ] = False,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Read and embed on this Ray cluster; `local` makes one.")
    ] = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Index files into a collection. Run it again at any time: what is unchanged is skipped."""
    from rag_server.commands.indexing import FileOptions, parse_attribute_options, run_change_model, run_index

    if change_model == bool(paths) or (change_model and ray is not None):
        raise InvalidRequestError("name files or folders to index, or --change-model without any and without --ray")
    if change_model:
        run_change_model(load_settings(), collection=collection, drop_old=drop_old_vectors, assume_yes=yes)
        return
    options = FileOptions(parse_attribute_options(attribute or []), tuple(sorted(set(principal))) if principal else None)
    complete = run_index(
        load_settings(),
        paths or [],
        collection=collection,
        options=options,
        prune=prune,
        assume_yes=yes,
        as_json=as_json,
        ray=ray,
    )
    if not complete:
        raise typer.Exit(1)


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="What to look for.")],
    collection: Collection,
    k: Annotated[int, typer.Option("-k", min=1, max=50, help="Number of passages.")] = 10,
    filters: Filter = None,
    rerank: Rerank = None,
    as_json: AsJson = False,
) -> None:
    """Show the passages that a question would be answered from."""
    from rag_server.commands.asking import AskOptions, run_search

    options = AskOptions(_json(filters), rerank)
    asyncio.run(run_search(load_settings(), query, collection=collection, k=k, options=options, as_json=as_json))


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="The question.")],
    collection: Collection,
    filters: Filter = None,
    rerank: Rerank = None,
    as_json: AsJson = False,
) -> None:
    """Answer a question from a collection, streamed, with its citations."""
    from rag_server.commands.asking import AskOptions, run_ask

    options = AskOptions(_json(filters), rerank)
    asyncio.run(run_ask(load_settings(), question, collection=collection, options=options, as_json=as_json))


@app.command()
def batch(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Rows as .jsonl, .csv or .parquet, or OpenAI's batch lines.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Where the answers go; what failed goes beside it.")],
    collection: Annotated[
        str | None, typer.Option("--collection", "-c", help="The collection that questions are answered from.")
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Ask the rows that failed once more.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Answer the first rows only.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would take in tokens and time, by a few rows.")
    ] = False,
    ordered: Annotated[bool, typer.Option("--ordered", help="Write the answers in the order of the input.")] = False,
    ray: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Answer on this Ray cluster; `local` makes one.")] = None,
    as_json: AsJson = False,
) -> None:
    """Answer a file of questions or requests. Run it again after whatever ended it: it goes on where it stopped."""
    from rag_server.commands.batching import BatchOptions, run_batch

    options = BatchOptions(collection, retry_failed, limit, dry_run, ordered, as_json, ray)
    if not run_batch(load_settings(), source, out, options):
        raise typer.Exit(1)


@app.command("migrate-index")
def migrate_index(
    to: Annotated[IndexKind, typer.Argument(help="Where vectors are to be searched.", show_default=False)],
    drop_old: Annotated[bool, typer.Option("--drop-old", help="Then delete the vector indexes of the other kind.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Build all vector indexes in FAISS or Milvus from the store, beside those in use. Run it again after whatever ended it."""
    from rag_server.commands.migrating import run_migrate_index

    run_migrate_index(load_settings(), to, drop_old=drop_old, assume_yes=yes, as_json=as_json)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Say what is installed, reachable and on which device, and what to do about what is not."""
    from rag_server.commands.diagnosis import run_doctor

    if not asyncio.run(run_doctor(load_settings(), as_json=as_json)):
        raise typer.Exit(1)


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    tenant: Annotated[str, typer.Option(help="Whose collections it opens; collections of different tenants never meet.")] = "",
    principal: Annotated[
        list[str] | None, typer.Option(help="Open only unrestricted files and those for this principal; may be repeated.")
    ] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(help="What it is for: `ask` (answers, searches), `read` (lists, files), `write`; may be repeated."),
    ] = None,
    expires: Annotated[str | None, typer.Option(metavar="DURATION", help="For how long it is valid: 30d, 12h or 15m.")] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=NUMBER", help="A limit for this key, such as requests_per_minute=60; may be repeated."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make an API key and print it, once. From then on every request needs one."""
    from rag_server.commands import managing_keys

    options = managing_keys.KeyOptions(tenant, principal or [], scope or [], expires, limit or [])
    managing_keys.create_key(load_settings(), name=name, options=options, as_json=as_json)


@keys.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """List the API keys."""
    from rag_server.commands import managing_keys

    managing_keys.list_keys(load_settings(), as_json=as_json)


@keys.command("revoke")
def revoke_key(key_id: Annotated[str, typer.Argument(help="As `rag-server keys list` shows it.")], yes: Yes = False) -> None:
    """End an API key at once."""
    from rag_server.commands import managing_keys

    managing_keys.revoke_key(load_settings(), key_id, assume_yes=yes)


@models.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List the models that were added, and how they did."""
    from rag_server.commands import managing_models

    managing_models.list_models(load_settings(), as_json=as_json)


@models.command("add")
def add_model(
    folder: Annotated[Path, typer.Argument(help="A LoRA adapter or a model folder, with safetensors.")],
    name: Annotated[str, typer.Option(help="What it is called from then on.")],
    kind: Annotated[ModelKind, typer.Option(help="What it is for.")],
    evaluation: Annotated[Path | None, typer.Option(help="What `python -m eval.run_gate` wrote about it.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Add it without an evaluation, or though it is worse.")] = False,
) -> None:
    """Add a model that was measured and is no worse than what it replaces."""
    from rag_server.commands import managing_models

    managing_models.add_model(load_settings(), folder, name=name, kind=kind, evaluation=evaluation, force=force)


@models.command("remove")
def remove_model(name: Annotated[str, typer.Argument(help="As `rag-server models list` shows it.")], yes: Yes = False) -> None:
    """Remove a model that nothing uses."""
    from rag_server.commands import managing_models

    managing_models.remove_model(load_settings(), name, assume_yes=yes)


@app.command(hidden=True)
def worker() -> None:
    """Index uploads until none is left; a running server starts it by itself."""
    from rag_server.commands.working import run_worker

    configure_logging(level="info")
    run_worker(load_settings())


@app.command("scripted-engine", hidden=True)
def scripted_engine(
    port: Annotated[int, typer.Option(help="Port to listen on.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    answer: Annotated[str | None, typer.Option(help="Say this instead of an answer made from the prompt.")] = None,
    time_to_first_token_s: Annotated[float, typer.Option(min=0, help="Seconds before the first token.")] = 0.0,
    tokens_per_s: Annotated[float, typer.Option(min=0, help="Tokens per second; 0 is as fast as can be.")] = 0.0,
    fail_every: Annotated[int, typer.Option(min=0, help="Answer 503 to every n-th request.")] = 0,
    break_after_tokens: Annotated[int, typer.Option(min=0, help="Break a stream off after n tokens.")] = 0,
    context_length: Annotated[int, typer.Option(min=1, help="Tokens of prompt and answer together.")] = 8192,
    max_running: Annotated[int, typer.Option(min=0, help="Requests that are answered at once; 0 is as many as come.")] = 0,
) -> None:
    """Serve deterministic answers over the engine's protocol, for tests and load."""
    from rag_server.engines.scripted import Script, run

    script = Script(
        answer=answer,
        time_to_first_token_s=time_to_first_token_s,
        tokens_per_s=tokens_per_s,
        fail_every=fail_every,
        break_after_tokens=break_after_tokens,
        context_length=context_length,
        max_running=max_running,
    )
    run(script, host=host, port=port)


def _json(option: str | None) -> dict[str, Any] | None:
    if option is None:
        return None
    try:
        parsed = json.loads(option)
    except ValueError as error:
        raise InvalidRequestError(f"--filter is not JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise InvalidRequestError("--filter must be a JSON object with a type")
    return parsed


def main() -> None:
    """Run the command line; a named error is one line on stderr and status 1."""
    configure_logging(level="warning")
    try:
        app()
    except RagServerError as error:
        print(f"rag-server: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
