"""Settings from the environment, a file and arguments."""

from pathlib import Path

import pytest

from rag_server.config import load_settings
from rag_server.errors import ConfigError


def test_environment_names_nested_settings() -> None:
    """RAG_A__B sets b of a; what is not set keeps its default."""
    settings = load_settings({"RAG_ENGINE__BASE_URL": "http://x/v1", "RAG_CHUNKING__MAX_TOKENS": "64", "HOME": "/root"})

    assert settings.engine.base_url == "http://x/v1"
    assert settings.chunking.max_tokens == 64
    assert (settings.port, settings.host) == (8000, "127.0.0.1")


def test_file_gives_way_to_environment_and_arguments(tmp_path: Path) -> None:
    """An argument goes before the environment, the environment before the file, the file before the default."""
    path = tmp_path / "settings.yaml"
    path.write_text("port: 1\nhost: file\nretrieve: {kind: dense, num_candidates: 7}\n")

    settings = load_settings({"RAG_CONFIG": str(path), "RAG_PORT": "2", "RAG_RETRIEVE__KIND": "lexical"}, port=3, host=None)

    assert (settings.port, settings.host) == (3, "file")
    assert (settings.retrieve.kind, settings.retrieve.num_candidates) == ("lexical", 7)


@pytest.mark.parametrize(
    ("environment", "sign"),
    [
        ({"RAG_PROT": "1"}, "RAG_PROT: there is no such setting; known are RAG_DATA_DIR"),
        ({"RAG_ENGINE__MODLE": "x"}, "RAG_ENGINE__MODLE: there is no such setting"),
        ({"RAG_ENGINE__BASE_URL": "gpu-box:8000"}, "RAG_ENGINE__BASE_URL must be an address such as"),
        ({"RAG_ENGINE__BASE_URL": "http://a/v1,,http://b/v1"}, "several with commas between them"),
        ({"RAG_PORT": "70000"}, "RAG_PORT: Input should be less than or equal to 65535"),
        ({"RAG_RETRIEVE__KIND": "magic"}, "RAG_RETRIEVE__KIND: Input should be 'dense', 'lexical' or 'hybrid'"),
        ({"RAG_CHUNKING__OVERLAP_TOKENS": "150"}, "overlap_tokens must be at most half of max_tokens"),
        ({"RAG_RERANK__KIND": "cross_encoder"}, "RAG_RERANK: cross_encoder needs RAG_RERANK__MODEL"),
        ({"RAG_RERANK__KIND": "listwise_scorer"}, "RAG_RERANK: listwise_scorer needs RAG_RERANK__MODEL"),
        ({"RAG_RERANK__FIRST_TOKEN": "true"}, "RAG_RERANK: first_token needs format=compact"),
        ({"RAG_INDEX__KIND": "milvus"}, "RAG_INDEX: milvus needs RAG_INDEX__URL"),
        ({"RAG_INDEX__URL": "milvus:19530"}, "RAG_INDEX: RAG_INDEX__URL must be a file ending in .db, or http://HOST:PORT"),
        ({"RAG_INDEX__URL": "http://me:secret@milvus"}, "user and password go into RAG_INDEX__TOKEN"),
        ({"RAG_RERANK__STEP": "30"}, "RAG_RERANK: step must be at most window"),
        ({"RAG_DATA_DIR": "/x", "RAG_DATA_DIR__Y": "1"}, "data_dir is not a group of settings"),
        ({"RAG_CONFIG": "/does/not/exist"}, "RAG_CONFIG: cannot read /does/not/exist"),
    ],
)
def test_mistake_names_the_setting(environment: dict[str, str], sign: str) -> None:
    """An unknown name or a value that does not fit is refused by its own name."""
    with pytest.raises(ConfigError) as caught:
        load_settings(environment)

    assert sign in str(caught.value)


@pytest.mark.parametrize("content", ["- a\n- b\n", "port: [", "unknown: 1\n", "\xff\xfe"])
def test_faulty_file_is_refused(tmp_path: Path, content: str) -> None:
    """A file that is no mapping of known settings is refused."""
    path = tmp_path / "settings.yaml"
    path.write_bytes(content.encode("latin-1"))

    with pytest.raises(ConfigError, match="RAG_"):
        load_settings({"RAG_CONFIG": str(path)})


def test_key_is_not_shown() -> None:
    """The engine's key does not stand in what is printed of the settings."""
    settings = load_settings({"RAG_ENGINE__API_KEY": "s3cret"})

    assert "s3cret" not in repr(settings)
    assert settings.engine.api_key.get_secret_value() == "s3cret"
