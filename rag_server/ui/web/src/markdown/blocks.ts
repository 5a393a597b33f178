/**
 * Cuts Markdown into its top-level blocks, so that of a growing text only the last block is read again.
 *
 * A block that another one follows does not change any more (CommonMark 0.31, appendix "A parsing strategy"), as long as
 * nothing in one block means something for another: link definitions and footnotes are therefore not taken as such.
 */

import { fromMarkdown } from "mdast-util-from-markdown";
import { gfmTableFromMarkdown } from "mdast-util-gfm-table";
import { mathFromMarkdown } from "mdast-util-math";
import { gfmTable } from "micromark-extension-gfm-table";
import { math } from "micromark-extension-math";
import { ACROSS_BLOCKS } from "./dialect";

/** A stretch of the source; offsets in UTF-16 units. */
export interface Block {
  start: number;
  source: string;
}

const DIALECT = {
  extensions: [gfmTable(), math(), { disable: { null: ACROSS_BLOCKS } }],
  mdastExtensions: [gfmTableFromMarkdown(), mathFromMarkdown()],
};

/** Returns the blocks of `source`; `before` are those of an earlier, shorter state of it, whose equal ones are kept. */
export function blocksOf(source: string, before: readonly Block[] = []): Block[] {
  const kept = unchanged(source, before);
  const last = kept.at(-1);
  const from = last === undefined ? 0 : last.start + last.source.length;
  return [...kept, ...cut(source.slice(from), from)];
}

/** Returns the earlier blocks that are complete, if the text has only grown at its end. */
function unchanged(source: string, before: readonly Block[]): readonly Block[] {
  const [first, last] = [before[0], before.at(-1)];
  if (first === undefined || last === undefined) return [];
  if (!source.startsWith(first.source) || !source.startsWith(last.source, last.start)) return [];
  // A line that is not complete may yet turn out to belong to the block before it.
  return before.slice(0, last.source.includes("\n") ? -1 : -2);
}

function cut(source: string, offset: number): Block[] {
  const { children } = fromMarkdown(source, DIALECT);
  const starts = children.map((child) => lineStart(source, child.position?.start.offset ?? 0));
  return starts.map((start, index) => {
    const from = index === 0 ? 0 : start;
    return { start: offset + from, source: source.slice(from, starts[index + 1] ?? source.length) };
  });
}

/** Indentation belongs to its block. */
function lineStart(source: string, offset: number): number {
  return source.lastIndexOf("\n", offset - 1) + 1;
}
