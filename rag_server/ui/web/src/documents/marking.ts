/** What is marked of a document, and how it comes into sight. */

import { type RefObject, useEffect } from "react";
import type { Passage } from "../api/shapes";
import { unitOffsets } from "../text";
import type { Range } from "./api";

/** The quote, or the whole passage: its offsets in the document, and its text. */
export interface Marking extends Range {
  text: string;
}

export function markingOf(passage: Pick<Passage, "start" | "end" | "text">, quote: Range | null): Marking {
  const start = Math.max(passage.start, quote?.start ?? 0);
  const end = Math.min(passage.end, quote?.end ?? passage.end);
  if (start >= end) return { start: passage.start, end: passage.end, text: passage.text };
  const unit = unitOffsets(passage.text);
  return { start, end, text: passage.text.slice(unit(start - passage.start), unit(end - passage.start)) };
}

/** Scrolls to the first mark when what is shown has changed, or to the top where there is none. */
export function useScrollToMark(within: RefObject<HTMLElement | null>, shown: unknown): void {
  useEffect(() => {
    if (shown === null || within.current === null) return;
    const target = within.current.querySelector("mark") ?? within.current;
    target.scrollIntoView({ block: "start" });
  }, [within, shown]);
}
