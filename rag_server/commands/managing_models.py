"""`rag-server models`: list, add and remove trained models."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from rag_server import factory
from rag_server.commands.confirmation import confirmed
from rag_server.config import Settings
from rag_server.engines.adapters import is_adapter, packaged_adapters
from rag_server.errors import InvalidRequestError, NotFoundError
from rag_server.model_evaluation import ModelKind, read_evaluation
from rag_server.model_registry import ModelRegistry, RegisteredModel
from rag_server.protocols import Json

# More than a server has.
ALL_COLLECTIONS = 1_000_000


def list_models(settings: Settings, *, as_json: bool) -> None:
    """Print the added models; those that came with the server are named on standard error."""
    registry = ModelRegistry(settings.data_dir)
    models = registry.models()
    if as_json:
        print(json.dumps([_object(registry, name, model) for name, model in models.items()], indent=2))
        return
    for name, model in models.items():
        day = datetime.fromtimestamp(model.added_at, tz=UTC).date().isoformat()
        print(f"{name}  {model.kind}  {_figures(model)}  added {day}  {registry.folder(name)}")
    if not models:
        print("no model was added; `rag-server models add` adds one", file=sys.stderr)
    for name in packaged_adapters():
        print(f"{name} comes with the server, as an adapter of the packaged model", file=sys.stderr)


def add_model(settings: Settings, folder: Path, *, name: str, kind: ModelKind, evaluation: Path | None, force: bool) -> None:
    """Keep a copy of a trained model and say how it is used.

    Raises:
        InvalidRequestError: The name cannot be used.
        UnsupportedModelError: The folder holds no such model.
        WorseModelError: It was not measured, or is worse, and nobody insists.
    """
    registry = ModelRegistry(settings.data_dir)
    found = None if evaluation is None else read_evaluation(evaluation)
    model = registry.add(folder, name=name, kind=kind, evaluation=found, force=force)
    print(f"{name} is added: {_figures(model)}")
    print(_next_step(settings, name, kind, registry.folder(name)), file=sys.stderr)


def remove_model(settings: Settings, name: str, *, assume_yes: bool) -> None:
    """Forget a model and delete its copy.

    Raises:
        NotFoundError: There is none of that name.
        InvalidRequestError: It is in use.
    """
    registry = ModelRegistry(settings.data_dir)
    if name not in registry.models():
        raise NotFoundError(f"there is no added model {name!r}; `rag-server models list` shows them")
    _check_unused(settings, name, registry.folder(name))
    if confirmed(f"Remove {name} with its files?", assume_yes=assume_yes):
        registry.remove(name)
        print(f"{name} is removed")


def _check_unused(settings: Settings, name: str, folder: Path) -> None:
    places = {
        "RAG_ENGINE__ANSWERER": settings.engine.answerer,
        "RAG_ENGINE__MODEL": settings.engine.model,
        "RAG_RERANK__MODEL": settings.rerank.model,
        "RAG_EMBEDDER__MODEL": settings.embedder.model,
    }
    named = [setting for setting, value in places.items() if value is not None and _is(value, name, folder)]
    if named:
        raise InvalidRequestError(f"{name} is in use: {' and '.join(named)} names it; set another first")
    store = factory.open_store(settings)
    try:
        built = [
            collection.name
            for collection in store.vector_stores.newest(ALL_COLLECTIONS)
            if collection.embedding_location is not None and _is(collection.embedding_location, None, folder)
        ]
    finally:
        store.database.close()
    if built:
        raise InvalidRequestError(
            f"{name} is in use: the vectors of {', '.join(sorted(built))} are its own; give each those of another model with "
            "RAG_EMBEDDER__MODEL and `rag-server index --change-model --collection NAME`, or delete it"
        )


def _is(value: str, name: str | None, folder: Path) -> bool:
    return value == name or Path(value).expanduser().resolve() == folder.resolve()


def _next_step(settings: Settings, name: str, kind: ModelKind, folder: Path) -> str:
    if kind == "embedder":
        change = f"RAG_EMBEDDER__MODEL={folder} rag-server index --change-model --collection NAME"
        return f"Give a collection its vectors with `{change}`, and keep the setting from then on."
    if kind == "cross_encoder":
        return f"Use it with RAG_RERANK__KIND=cross_encoder RAG_RERANK__MODEL={folder}"
    if not is_adapter(folder):
        return f"It is a model of its own: RAG_ENGINE__MODEL={folder} has vLLM serve it instead of the one that is served now."
    setting = (
        f"RAG_ENGINE__ANSWERER={name}" if kind == "answerer" else f"RAG_RERANK__KIND=full_ranking RAG_RERANK__MODEL={name}"
    )
    where = (
        "" if settings.engine.base_url is None else f" Have {settings.engine.base_url} serve {folder} under this name first."
    )
    return f"The engine serves it from the next start on; use it with {setting}.{where}"


def _figures(model: RegisteredModel) -> str:
    how = "forced, " if model.forced else ""
    if model.evaluation is None:
        return f"{how}not measured"
    found, baseline = model.evaluation.decisive, model.evaluation.baseline.name
    figures = f"{found.measure} {found.new:.3f} against {found.baseline:.3f} of {baseline}"
    return f"{how}{figures} on {found.n} of {model.evaluation.dataset} (p = {found.p:.3f})"


def _object(registry: ModelRegistry, name: str, model: RegisteredModel) -> Json:
    return {"name": name, "folder": str(registry.folder(name)), **model.model_dump(mode="json")}
