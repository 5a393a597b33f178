"""Cache keys: one function that hashes everything that changes the value."""

import hashlib
import json


def cache_key(kind: str, **parts: object) -> str:
    """Return `kind` and a SHA-256 of the canonical JSON of `parts`; name every part, a forgotten one answers wrongly."""
    canonical = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return f"{kind}:{hashlib.sha256(canonical.encode('utf-8', 'surrogatepass')).hexdigest()}"
