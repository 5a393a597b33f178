"""The HTTP server's end: it is told to everyone first, and what runs is finished."""

import math
import time
from collections.abc import Callable
from types import FrameType

import structlog
import uvicorn

from rag_server.services import Services

log = structlog.get_logger()

# How long answers that were cut off after the grace time have to say so.
LAST_WORDS_S = 1


class DrainingServer(uvicorn.Server):
    """Goes on listening while requests run after it was asked to end: /ready says so, and new ones get 503.

    uvicorn alone would close its sockets at once, and whoever watches /ready would find nobody there. Before it refuses
    anything there may be a notice, in which /ready says so and all is served: so a balancer has sent the last request here.
    """

    def __init__(self, config: uvicorn.Config, services: Services, num_in_background: Callable[[], int] = lambda: 0) -> None:
        """Take `num_in_background` for how many answers are made that no connection waits for."""
        config.timeout_graceful_shutdown = LAST_WORDS_S
        super().__init__(config)
        self._services = services
        self._num_in_background = num_in_background
        self.refuses_from = self._ends_at = math.inf

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; a second signal ends the server without waiting."""
        is_first = not self._services.leaving
        super().handle_exit(sig, frame)
        if is_first:
            limits = self._services.settings.limits
            self._services.leaving = True
            self._services.shutting_down = limits.shutdown_notice_s == 0
            self.refuses_from = time.monotonic() + limits.shutdown_notice_s
            self._ends_at = self.refuses_from + limits.shutdown_grace_s
            self.should_exit = False

    async def on_tick(self, counter: int) -> bool:
        """Return whether to end now: asked so, and nothing runs any more or the grace time is over."""
        now = time.monotonic()
        if now >= self.refuses_from:
            self._services.shutting_down = True
            num_running = len(self.server_state.tasks) + self._num_in_background()
            if num_running and now >= self._ends_at:
                log.warning("the grace time is over; what still runs is cut off", requests=num_running)
            self.should_exit = self.should_exit or num_running == 0 or now >= self._ends_at
        return await super().on_tick(counter)
