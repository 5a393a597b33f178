"""Addresses of an engine, as settings name them: one, or several with commas between them."""

from urllib.parse import urlsplit

# vLLM serves them beside /v1, not under it.
BESIDE_V1 = frozenset({"/tokenize", "/metrics"})


def addresses_in(base_url: str) -> list[str]:
    """Return the addresses, each once, without the slash at their ends."""
    return list(dict.fromkeys(address.strip().rstrip("/") for address in base_url.split(",")))


def url_at(address: str, path: str) -> str:
    """Return where that path of OpenAI's API, or of vLLM's beside it, is at an address."""
    return (address.removesuffix("/v1") if path in BESIDE_V1 else address) + path


def without_password(url: str) -> str:
    """Return an address for the log."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
