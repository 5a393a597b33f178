/** Loads something for as long as it is wanted, and says how far that is. */

import { useCallback, useEffect, useMemo, useState } from "react";
import { useStore } from "zustand";
import { session } from "../session";

export type Loaded<T> =
  | { state: "loading" }
  | { state: "ready"; value: T }
  | { state: "failed"; error: unknown };

const LOADING = { state: "loading" } as const;

/** Loads again with another `load`, with another key, and when told to; what is not wanted any more is broken off. */
export function useLoaded<T>(load: (signal: AbortSignal) => Promise<T>): [Loaded<T>, () => void] {
  const [attempt, setAttempt] = useState(0);
  const key = useStore(session, (state) => state.key);
  const job = useMemo(() => ({ load, attempt, key }), [load, attempt, key]);
  const [done, setDone] = useState<{ job: object; loaded: Loaded<T> } | null>(null);
  useEffect(() => {
    const controller = new AbortController();
    function finish(loaded: Loaded<T>) {
      if (!controller.signal.aborted) setDone({ job, loaded });
    }
    job.load(controller.signal).then(
      (value) => finish({ state: "ready", value }),
      (error: unknown) => finish({ state: "failed", error }),
    );
    return () => controller.abort();
  }, [job]);
  const retry = useCallback(() => setAttempt((count) => count + 1), []);
  // What was loaded for another job is not shown for this one.
  return [done?.job === job ? done.loaded : LOADING, retry];
}
