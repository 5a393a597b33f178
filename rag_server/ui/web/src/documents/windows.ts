/** Which stretch of a long text is shown, and in what pieces. */

import type { Range } from "./api";
import type { Span } from "./quotes";

/** As many characters come with a step to earlier or later text. */
export const STEP = 200_000;
/** What is out of sight is laid out by blocks; smaller ones would be many. */
const BLOCK = 4_000;
const LONGEST_BLOCK = 16_000;

/** The stretch before; null at the start of the document. */
export function earlier({ start }: Range): Range | null {
  return start <= 0 ? null : { start: Math.max(0, start - STEP), end: start };
}

/** The stretch after; null at the end of the document. */
export function later({ end }: Range, characters: number): Range | null {
  return end >= characters ? null : { start: end, end: Math.min(characters, end + STEP) };
}

export interface Piece {
  text: string;
  isPassage: boolean;
  isMarked: boolean;
}

/** Cuts a text into blocks, and them where the passage and the mark start and end. */
export function blocksOf(text: string, passage: Span, mark: Span): Piece[][] {
  const borders = [passage.start, passage.end, mark.start, mark.end].sort((one, other) => one - other);
  return cut(text).map(({ start, end }) => {
    const cuts = [start, ...borders.filter((border) => border > start && border < end), end];
    return cuts.slice(1).flatMap((to, index) => {
      const from = cuts[index] ?? 0;
      if (from === to) return [];
      const isIn = (span: Span) => from >= span.start && to <= span.end;
      return [{ text: text.slice(from, to), isPassage: isIn(passage), isMarked: isIn(mark) }];
    });
  });
}

/** Blocks end with a line where that is not too long, else with a word, else between two characters. */
function cut(text: string): Span[] {
  const blocks: Span[] = [];
  for (let start = 0; start < text.length; ) {
    const end = blockEnd(text, start);
    blocks.push({ start, end });
    start = end;
  }
  return blocks;
}

function blockEnd(text: string, start: number): number {
  if (text.length - start <= BLOCK) return text.length;
  const line = text.indexOf("\n", start + BLOCK) + 1;
  if (line > 0 && line - start <= LONGEST_BLOCK) return line;
  const longest = start + LONGEST_BLOCK;
  if (longest >= text.length) return text.length;
  const word = text.lastIndexOf(" ", longest - 1) + 1;
  if (word > start) return word;
  const isWithinPair = /[\udc00-\udfff]/.test(text.charAt(longest));
  return isWithinPair ? longest - 1 : longest;
}
