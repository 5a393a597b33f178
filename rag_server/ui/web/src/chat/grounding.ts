/** What an answer's sources say of its text, in the offsets of the page. */

import type { Citation, Rag, Source } from "../api/shapes";
import { type Grounding, UNGROUNDED } from "../markdown/marks";
import { unitOffsets } from "../text";

/** Offsets of the answer in UTF-16 units; those of the document stay in characters, as the server counts them. */
export interface Grounded {
  marks: Grounding;
  citations: Citation[];
}

export function groundedIn(content: string, rag: Rag | null): Grounded {
  if (!rag?.citations) return { marks: UNGROUNDED, citations: [] };
  const unit = unitOffsets(content);
  const citations = rag.citations.map((citation) => ({
    ...citation,
    answer_start: unit(citation.answer_start),
    answer_end: unit(citation.answer_end),
  }));
  const unverified = (rag.sentences ?? [])
    .filter(({ verified }) => !verified)
    .map(({ answer_start, answer_end }) => ({ start: unit(answer_start), end: unit(answer_end) }));
  const unmarked = citations
    .filter(({ number, verified }) => number === null && verified)
    .map(({ answer_end, passage_id }) => ({
      end: answer_end,
      number: numberOf(passage_id, rag.passages ?? []),
    }));
  return { marks: { unverified, unmarked: unmarked.filter(({ number }) => number > 0) }, citations };
}

/** Returns the number under which the passage stands in the prompt; 0 if it does not. */
export function numberOf(passageId: number, sources: readonly Source[]): number {
  return sources.findIndex(({ id }) => id === passageId) + 1;
}

/** Returns the citation of the mark that stands at that place of the answer, and else none. */
export function citationAt(
  citations: readonly Citation[],
  passageId: number,
  at: number | null,
): Citation | null {
  const ofPassage = citations.filter(({ passage_id }) => passage_id === passageId);
  if (at === null) return ofPassage.find(({ verified }) => verified) ?? ofPassage[0] ?? null;
  const here = ofPassage.find(
    ({ number, answer_start, answer_end }) =>
      answer_end === at || (number !== null && answer_start <= at && at < answer_end),
  );
  return here ?? null;
}
