"""What an API key may use: refused before the body is read, and told in the headers of every answer."""

import time
from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rag_server.api.errors import error_response
from rag_server.api.guard import is_public
from rag_server.api.work import work_of
from rag_server.cache.rate_limiter import DAY_S, MINUTE_S, Limit, LimitKind, RateLimiter, Standing, Verdict
from rag_server.config import LimitsSettings
from rag_server.errors import RateLimitedError
from rag_server.services import Services
from rag_server.types import Caller
from rag_server.usage import current_record

# Whoever asks without a key, where none is needed, is one caller.
NO_KEY = "-"
UPLOADS = "upload_bytes_per_day"
_KINDS: dict[str, tuple[LimitKind, int]] = {
    "requests_per_minute": ("rate", MINUTE_S),
    "tokens_per_minute": ("rate", MINUTE_S),
    "tokens_per_day": ("quota", DAY_S),
    UPLOADS: ("quota", DAY_S),
}
# No room, too slow, too large: what was announced was not taken.
_NOT_TAKEN = (503, 408, 413)
_HEADERS = {"requests_per_minute": "requests", "tokens_per_minute": "tokens", "tokens_per_day": "tokens"}


class RateLimits:
    """Stands after the guard, since limits are those of a key, and before whatever reads the body."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._settings = services.settings.limits
        self._limiter = services.rate_limiter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, or answer 429."""
        caller = scope.get("state", {}).get("caller")
        limits = [] if scope["type"] != "http" or is_public(scope["path"]) else limits_of(caller, self._settings)
        if not limits:
            await self._app(scope, receive, send)
            return
        name = _name_of(caller)
        if work_of(scope["method"], scope["path"]) is not None:
            charge_tokens(self._limiter, name, limits)
        announced = Headers(scope=scope).get("content-length", "")
        num_bytes = int(announced) if announced.isdecimal() else 0
        costs = _costs(scope, limits, num_bytes)
        upload = _Upload(receive, num_bytes)
        verdict = await self._limiter.take(name, costs) if costs else Verdict()
        shown = rate_headers(verdict.standings)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                upload.status = message["status"]
                MutableHeaders(scope=message).update(shown)
            await send(message)

        if verdict.refused is not None:
            await error_response(_refusal(verdict.refused))(scope, receive, with_headers)
            return
        uploads = [standing.limit for standing in verdict.standings if standing.limit.name == UPLOADS]
        try:
            await self._app(scope, upload.receive if uploads else receive, with_headers)
        finally:
            self._settle(name, uploads, upload)

    def _settle(self, name: str, uploads: Sequence[Limit], upload: "_Upload") -> None:
        """Charge an upload that did not announce its size, and give back what was charged for one that came to nothing."""
        if upload.was_taken and not upload.announced and upload.num_bytes:
            self._limiter.charge(name, [(limit, upload.num_bytes) for limit in uploads])
        elif not upload.was_taken and upload.announced:
            costs = [(limit, upload.announced) for limit in uploads]
            self._limiter.give_back(name, costs, taken_s=upload.began_s)


def charge_batched_tokens(limiter: RateLimiter, caller: Caller, settings: LimitsSettings) -> None:
    """Have the tokens of a batch's request charged to its key's quota; the rate per minute is for those who wait."""
    quotas = [limit for limit in limits_of(caller, settings) if limit.kind == "quota"]
    charge_tokens(limiter, _name_of(caller), quotas)


def charge_tokens(limiter: RateLimiter, name: str, limits: Sequence[Limit]) -> None:
    """Have the tokens of the answer charged when they are known."""
    tokens = [limit for limit in limits if limit.name.startswith("tokens_")]
    record = current_record()
    if tokens and record is not None:
        record.charge = lambda number: limiter.charge(name, [(limit, number) for limit in tokens])


def _name_of(caller: Caller | None) -> str:
    return NO_KEY if caller is None or caller.key_id is None else caller.key_id


class _Upload:
    """What is known of an upload: the bytes that it announced, those that were read, and how it was answered."""

    def __init__(self, receive: Receive, announced: int) -> None:
        self._receive = receive
        self.announced = announced
        self.num_bytes = 0
        self.began_s = time.time()
        self.status: int | None = None

    @property
    def was_taken(self) -> bool:
        """Whether it got an answer, and not one that says that it was not taken."""
        return self.status is not None and self.status not in _NOT_TAKEN

    async def receive(self) -> Message:
        message = await self._receive()
        self.num_bytes += len(message.get("body", b""))
        return message


def limits_of(caller: Caller | None, settings: LimitsSettings) -> list[Limit]:
    """Return the limits of a caller: those of its key, and for the others the settings'."""
    own = {} if caller is None else caller.limits
    limits = []
    for name, (kind, period_s) in _KINDS.items():
        number = own.get(name, getattr(settings, name))
        if number is not None:
            limits.append(Limit(name, kind, number, period_s))
    return limits


def rate_headers(standings: Sequence[Standing]) -> dict[str, str]:
    """Return OpenAI's `x-ratelimit-*` headers; of two limits on tokens the one that is nearer to its end."""
    headers = {}
    for standing in sorted(standings, key=lambda standing: -standing.remaining):
        what = _HEADERS.get(standing.limit.name)
        if what is not None:
            headers[f"x-ratelimit-limit-{what}"] = str(standing.limit.limit)
            headers[f"x-ratelimit-remaining-{what}"] = str(standing.remaining)
            headers[f"x-ratelimit-reset-{what}"] = duration(standing.reset_s)
    return headers


def duration(seconds: float) -> str:
    """Return a duration as OpenAI writes it: 12ms, 1.5s, 6m0s, 23h59m59s."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    if seconds < 60:
        return f"{round(seconds, 3):g}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s"


def _costs(scope: Scope, limits: Sequence[Limit], num_bytes: int) -> list[tuple[Limit, int]]:
    """Return what the request is known to cost of the limits that it touches; its tokens are charged when they are known."""
    work = work_of(scope["method"], scope["path"])
    costs = []
    for limit in limits:
        if limit.name == "requests_per_minute":
            costs.append((limit, 1))
        elif limit.name == UPLOADS and work == "upload":
            costs.append((limit, num_bytes))
        elif limit.name.startswith("tokens_") and work in ("generate", "search"):
            costs.append((limit, 0))
    return costs


def _refusal(standing: Standing) -> RateLimitedError:
    limit = standing.limit
    what = limit.name.replace("_", " ")
    message = (
        f"this API key may use {limit.limit:,} {what}, and they are used up; try again in {duration(standing.enough_in_s)}"
    )
    code = "insufficient_quota" if limit.kind == "quota" else "rate_limit_exceeded"
    return RateLimitedError(message, standing.enough_in_s, code)
