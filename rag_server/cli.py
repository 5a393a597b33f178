"""The command line: `rag-server serve | index | search | ask | doctor`."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from rag_server.config import load_settings
from rag_server.errors import RagServerError
from rag_server.observability import configure_logging

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Answer questions from your own documents. Every setting is an environment variable; `rag-server doctor` lists them.",
)

Collection = Annotated[str, typer.Option("--collection", "-c", help="The collection's name.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


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
    paths: Annotated[list[Path], typer.Argument(help="Files and folders; rows of a .jsonl are documents of their own.")],
    collection: Collection,
    as_json: AsJson = False,
) -> None:
    """Index files into a collection. Run it again at any time: what is unchanged is skipped."""
    from rag_server.commands.indexing import run_index

    if not run_index(load_settings(), paths, collection=collection, as_json=as_json):
        raise typer.Exit(1)


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="What to look for.")],
    collection: Collection,
    k: Annotated[int, typer.Option("-k", min=1, max=50, help="Number of passages.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Show the passages that a question would be answered from."""
    from rag_server.commands.asking import run_search

    asyncio.run(run_search(load_settings(), query, collection=collection, k=k, as_json=as_json))


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="The question.")],
    collection: Collection,
    as_json: AsJson = False,
) -> None:
    """Answer a question from a collection, streamed, with its citations."""
    from rag_server.commands.asking import run_ask

    asyncio.run(run_ask(load_settings(), question, collection=collection, as_json=as_json))


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Say what is installed, reachable and on which device, and what to do about what is not."""
    from rag_server.commands.diagnosis import run_doctor

    if not asyncio.run(run_doctor(load_settings(), as_json=as_json)):
        raise typer.Exit(1)


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
    )
    run(script, host=host, port=port)


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
