/** The passages of a file around one of them, which grow in both directions: a file may have millions. */

import { useCallback, useEffect, useState } from "react";
import { ApiError } from "../api/http";
import type { Passage } from "../api/shapes";
import { filePassages, type PassageDetail } from "./api";
import { useLoaded } from "./loading";

const AT_ONCE = 25;

/** In the order of the text. */
export interface Around {
  passages: Passage[];
  hasEarlier: boolean;
  hasLater: boolean;
}

type Direction = "asc" | "desc";

/** @returns null where the key may not read the collection. @throws ApiError, OfflineError. */
export async function around(passage: PassageDetail, signal: AbortSignal): Promise<Around | null> {
  const ask = (order: Direction) =>
    filePassages(passage, { after: passage.id, order, limit: AT_ONCE }, signal);
  try {
    const [before, after] = await Promise.all([ask("desc"), ask("asc")]);
    return {
      passages: [...before.data.toReversed(), passage, ...after.data],
      hasEarlier: before.has_more,
      hasLater: after.has_more,
    };
  } catch (error) {
    if (error instanceof ApiError && error.status === 403) return null;
    throw error;
  }
}

export async function more(
  of: PassageDetail,
  list: Around,
  order: Direction,
  signal: AbortSignal,
): Promise<Around> {
  const last = order === "asc" ? list.passages.at(-1) : list.passages[0];
  const { data, has_more } = await filePassages(
    of,
    { after: last?.id ?? of.id, order, limit: AT_ONCE },
    signal,
  );
  return order === "asc"
    ? { ...list, passages: [...list.passages, ...data], hasLater: has_more }
    : { ...list, passages: [...data.toReversed(), ...list.passages], hasEarlier: has_more };
}

export interface PassageList {
  /** null while they are not known, and where the key may not read them. */
  list: Around | null;
  isForbidden: boolean;
  error: unknown;
  retry(): void;
  grow(order: Direction): void;
}

/** Keeps the list while the passage is in it. */
export function useAround(passage: PassageDetail): PassageList {
  const [anchor, setAnchor] = useState(passage);
  const [wanted, setWanted] = useState<{ order: Direction } | null>(null);
  const [list, setList] = useState<Around | null>(null);
  const [growthError, setGrowthError] = useState<unknown>(null);
  const load = useCallback((signal: AbortSignal) => around(anchor, signal), [anchor]);
  const [loaded, retry] = useLoaded(load);
  useEffect(() => setList(loaded.state === "ready" ? loaded.value : null), [loaded]);
  useEffect(() => {
    if (wanted === null || list === null) return;
    const controller = new AbortController();
    more(anchor, list, wanted.order, controller.signal)
      .then((grown) => {
        setWanted(null);
        setList(grown);
      })
      .catch((error: unknown) => {
        if (controller.signal.aborted) return;
        setWanted(null);
        setGrowthError(error);
      });
    return () => controller.abort();
  }, [anchor, list, wanted]);
  const isElsewhere = list !== null && !list.passages.some(({ id }) => id === passage.id);
  if (isElsewhere && anchor.id !== passage.id) {
    setAnchor(passage);
    setList(null);
  }
  return {
    list,
    isForbidden: loaded.state === "ready" && loaded.value === null,
    error: loaded.state === "failed" ? loaded.error : growthError,
    retry: () => {
      setGrowthError(null);
      retry();
    },
    grow: (order) => {
      setGrowthError(null);
      setWanted({ order });
    },
  };
}
