/** Tries again when the server says when. */

import { ApiError } from "../api/http";

export interface Clock {
  now(): number;
  /** @throws The signal's reason. */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
}

/** A quota that comes back with the day is nothing to wait for. */
const NOT_WAITED_FOR = "insufficient_quota";

/**
 * Tries until it works or fails for another reason than a busy server.
 *
 * `onWait` hears until when it waits (in the clock's milliseconds), and null when it goes on.
 */
export async function patiently<T>(
  attempt: () => Promise<T>,
  clock: Clock,
  signal: AbortSignal,
  onWait: (until: number | null) => void,
): Promise<T> {
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      const waitMs = waitOf(error);
      if (waitMs === null) throw error;
      onWait(clock.now() + waitMs);
      await clock.sleep(waitMs, signal);
      onWait(null);
    }
  }
}

/** How long to wait before trying again, in milliseconds; null if that does not help. */
export function waitOf(error: unknown): number | null {
  if (!(error instanceof ApiError) || !error.isOverload || error.code === NOT_WAITED_FOR) return null;
  return error.retryAfterS === null ? null : Math.max(1000, error.retryAfterS * 1000);
}

export const realClock: Clock = {
  now: () => Date.now(),
  sleep: (ms, signal) =>
    new Promise((resolve, reject) => {
      signal.throwIfAborted();
      const stop = () => {
        clearTimeout(timer);
        reject(signal.reason);
      };
      const timer = setTimeout(() => {
        signal.removeEventListener("abort", stop);
        resolve();
      }, ms);
      signal.addEventListener("abort", stop, { once: true });
    }),
};
