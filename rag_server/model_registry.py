"""The models that were trained and added, each with its evaluation: copies in the data directory, listed in one file.

DATA_DIR/models/registry.json
DATA_DIR/models/NAME/
"""

import contextlib
import fcntl
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from indexers.snapshot_files import replace_durably
from rag_server.engines.adapters import PACKAGED_ANSWERER, is_adapter, packaged_adapters
from rag_server.engines.smollm2_weights import MODEL_NAME
from rag_server.errors import ConfigError, InvalidRequestError, NotFoundError, StoreError, WorseModelError
from rag_server.model_evaluation import ModelEvaluation, ModelKind, check_not_worse
from rag_server.model_folders import check_model, copy_model, fingerprint_of, sync

REGISTRY_FILE = "registry.json"
LOCK_FILE = "registry.lock"
# A folder, an argument of vLLM and a model of the API are called so.
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
REMEDY = "measure it with `python -m eval.run_gate`, or insist with --force"


class RegisteredModel(BaseModel):
    """A model that was added; `evaluation` is None only where someone insisted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: ModelKind
    fingerprint: str
    added_at: int
    forced: bool
    evaluation: ModelEvaluation | None


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    models: dict[str, RegisteredModel] = {}


class ModelRegistry:
    """The added models of a data directory."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / "models"

    def models(self) -> dict[str, RegisteredModel]:
        """Return the models by their names.

        Raises:
            ConfigError: The list is damaged.
        """
        path = self._folder / REGISTRY_FILE
        try:
            return dict(_File.model_validate_json(path.read_bytes()).models)
        except FileNotFoundError:
            return {}
        except (OSError, ValidationError) as error:
            raise ConfigError(
                f"the list of added models, {path}, cannot be read: {error}; correct it, or remove it and add the models again"
            ) from None

    def folder(self, name: str) -> Path:
        """Return where the model of that name is kept."""
        return self._folder / name

    def adapters(self) -> dict[str, Path]:
        """Return the folders of the answerers and rankers that are adapters of the engine's model, by their names."""
        kept = {name: self.folder(name) for name, model in self.models().items() if model.kind in ("answerer", "ranker")}
        return {name: folder for name, folder in kept.items() if is_adapter(folder)}

    def add(
        self, folder: Path, *, name: str, kind: ModelKind, evaluation: ModelEvaluation | None, force: bool
    ) -> RegisteredModel:
        """Keep a copy of the model; nothing is kept of one that is refused. With `force` no evaluation refuses it.

        Raises:
            InvalidRequestError: The name cannot be used.
            UnsupportedModelError: The folder holds no such model.
            WorseModelError: There is no evaluation, it is of another model, or the model is worse.
        """
        _check_name(name)
        check_model(folder, kind)
        fingerprint = fingerprint_of(folder)
        if not force:
            _check_evaluation(evaluation, kind, fingerprint)
        is_its_own = evaluation is not None and (evaluation.kind, evaluation.new.fingerprint) == (kind, fingerprint)
        model = RegisteredModel(
            kind=kind,
            fingerprint=fingerprint,
            added_at=int(time.time()),
            forced=force,
            evaluation=evaluation if is_its_own else None,
        )
        with self._alone():
            models = self.models()
            if name in models:
                raise InvalidRequestError(f"there is a model {name!r}: remove it first, or choose another name", "name")
            self._keep(folder, name, fingerprint)
            self._write({**models, name: model})
        return model

    def remove(self, name: str) -> None:
        """Forget the model and delete its copy.

        Raises:
            NotFoundError: There is none of that name.
        """
        with self._alone():
            models = self.models()
            if name not in models:
                raise NotFoundError(f"there is no added model {name!r}; `rag-server models list` shows them")
            del models[name]
            self._write(models)
            shutil.rmtree(self.folder(name), ignore_errors=True)

    def _keep(self, folder: Path, name: str, fingerprint: str) -> None:
        """Copy the model; its folder has its name only once it is complete."""
        for abandoned in self._folder.glob("added-*.tmp"):
            shutil.rmtree(abandoned)
        temporary = Path(tempfile.mkdtemp(prefix="added-", suffix=".tmp", dir=self._folder))
        copy_model(folder, temporary / name)
        if fingerprint_of(temporary / name) != fingerprint:
            shutil.rmtree(temporary)
            raise InvalidRequestError(f"{folder} changed while it was copied: add it once its training has ended", "folder")
        # Of a model that nobody lists: left by a crash.
        shutil.rmtree(self.folder(name), ignore_errors=True)
        (temporary / name).replace(self.folder(name))
        temporary.rmdir()
        sync(self._folder)

    def _write(self, models: dict[str, RegisteredModel]) -> None:
        replace_durably(self._folder / REGISTRY_FILE, _File(models=models).model_dump_json(indent=2).encode())

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with (self._folder / LOCK_FILE).open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise StoreError(
                f"the models in {self._folder} cannot be changed: {error}; make room, or let it be written"
            ) from error


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise InvalidRequestError(f"{name!r} is no name for a model: use up to 64 of a-z, 0-9, - and _", "name")
    if name in (MODEL_NAME, PACKAGED_ANSWERER, *packaged_adapters()):
        raise InvalidRequestError(f"{name!r} is the name of a packaged model: choose another", "name")


def _check_evaluation(evaluation: ModelEvaluation | None, kind: ModelKind, fingerprint: str) -> None:
    if evaluation is None:
        raise WorseModelError(f"nobody has measured this model against what it would replace: {REMEDY}")
    try:
        check_not_worse(evaluation, kind, fingerprint)
    except WorseModelError as error:
        raise WorseModelError(f"{error}; {REMEDY}") from None
