"""The HTTP server's end: it is told to everyone first, and what runs is finished."""

import math
import time
from types import FrameType

import structlog
import uvicorn

from rag_server.services import Services

log = structlog.get_logger()

# How long answers that were cut off after the grace time have to say so.
LAST_WORDS_S = 1


class DrainingServer(uvicorn.Server):
    """Goes on listening while requests run after it was asked to end: /ready says so, and new ones get 503.

    uvicorn alone would close its sockets at once, and whoever watches /ready would find nobody there.
    """

    def __init__(self, config: uvicorn.Config, services: Services) -> None:
        config.timeout_graceful_shutdown = LAST_WORDS_S
        super().__init__(config)
        self._services = services
        self._ends_at = math.inf

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; a second signal ends the server without waiting."""
        is_first = not self._services.shutting_down
        super().handle_exit(sig, frame)
        if is_first:
            self._services.shutting_down = True
            self._ends_at = time.monotonic() + self._services.settings.limits.shutdown_grace_s
            self.should_exit = False

    async def on_tick(self, counter: int) -> bool:
        """Return whether to end now: asked so, and nothing runs any more or the grace time is over."""
        num_running = len(self.server_state.tasks)
        if self._services.shutting_down and (num_running == 0 or time.monotonic() >= self._ends_at):
            if num_running:
                log.warning("the grace time is over; what still runs is cut off", requests=num_running)
            self.should_exit = True
        return await super().on_tick(counter)
