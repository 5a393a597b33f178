/** A rehype plugin that puts an answer's citations into its tree: marks such as [2], and which sentences are unsupported. */

import type { Element, ElementContent, Root, Text } from "hast";
import { SKIP, visit } from "unist-util-visit";

/** The same as the server's: [2], [2, 3]; not the text of a link. */
const MARK = /\[(\d{1,3}(?:\s*[,;]\s*\d{1,3})*)\](?!\()/g;
/** Elements in which brackets are code or mathematics. */
const LITERAL = new Set(["code", "pre"]);
/** Elements that hold no sentences: a cell or a heading alone claims nothing. */
const WITHOUT_SENTENCES = new Set(["table", "h1", "h2", "h3", "h4", "h5", "h6"]);

/** What is known of the text between two offsets of the source, in UTF-16 units. */
export interface Grounding {
  /** Sentences that no passage supports. */
  unverified: readonly { start: number; end: number }[];
  /** Sentences that bear no mark, and the number of the passage that supports them; the mark comes at `end`. */
  unmarked: readonly { end: number; number: number }[];
}

export const UNGROUNDED: Grounding = { unverified: [], unmarked: [] };

export interface MarksOptions {
  /** How many passages there are: larger numbers are no marks. */
  numPassages: number;
  grounding: Grounding;
}

export function rehypeMarks({ numPassages, grounding }: MarksOptions) {
  return (tree: Root) => putMarks(tree, numPassages, grounding);
}

function putMarks(tree: Root | Element, numPassages: number, grounding: Grounding): void {
  visit(tree, (node, index, parent) => {
    if (node.type === "element" && LITERAL.has(node.tagName)) return SKIP;
    if (node.type === "element" && node !== tree && WITHOUT_SENTENCES.has(node.tagName)) {
      putMarks(node, numPassages, UNGROUNDED);
      return SKIP;
    }
    if (node.type !== "text" || parent === undefined || index === undefined) return undefined;
    const pieces = segments(node, grounding).flatMap((piece) => withMarks(piece, numPassages));
    parent.children.splice(index, 1, ...(pieces as typeof parent.children));
    return [SKIP, index + pieces.length];
  });
}

/** Cuts a text at the borders of sentences: sets off those without support, and adds the marks that are missing. */
function segments(node: Text, { unverified, unmarked }: Grounding): ElementContent[] {
  const start = node.position?.start.offset;
  const end = node.position?.end.offset;
  // With an escape or an entity in it, a text has not the length of its source.
  if (start === undefined || end === undefined || end - start !== node.value.length) return [node];
  const added = unmarked.filter((sentence) => sentence.end > start && sentence.end <= end);
  const spans = unverified.filter((sentence) => sentence.start < end && sentence.end > start);
  const borders = [...added.map((one) => one.end), ...spans.flatMap((span) => [span.start, span.end]), end];
  const cuts = [...new Set(borders)]
    .filter((cut) => cut > start && cut <= end)
    .sort((one, other) => one - other);
  const pieces: ElementContent[] = [];
  let at = start;
  for (const cut of cuts) {
    const from = at;
    const text = textAt(node.value.slice(from - start, cut - start), from);
    const isUnverified = spans.some((span) => span.start <= from && span.end >= cut);
    pieces.push(isUnverified ? setOff(text) : text);
    pieces.push(...added.filter((one) => one.end === cut).map(({ number }) => mark(number, cut)));
    at = cut;
  }
  return pieces;
}

/** Replaces what is written as a mark. */
function withMarks(piece: ElementContent, numPassages: number): ElementContent[] {
  if (piece.type === "element") {
    if (piece.properties.dataMark !== undefined) return [piece];
    return [{ ...piece, children: piece.children.flatMap((child) => withMarks(child, numPassages)) }];
  }
  if (piece.type !== "text") return [piece];
  const offset = piece.position?.start.offset;
  const pieces: ElementContent[] = [];
  let at = 0;
  for (const match of piece.value.matchAll(MARK)) {
    const numbers = [...new Set((match[1]?.match(/\d+/g) ?? []).map(Number))].filter(
      (number) => number >= 1 && number <= numPassages,
    );
    if (numbers.length === 0) continue;
    if (match.index > at) pieces.push({ type: "text", value: piece.value.slice(at, match.index) });
    pieces.push(...numbers.map((number) => mark(number, offset === undefined ? null : offset + match.index)));
    at = match.index + match[0].length;
  }
  if (at === 0) return [piece];
  if (at < piece.value.length) pieces.push({ type: "text", value: piece.value.slice(at) });
  return pieces;
}

function textAt(value: string, offset: number): Text {
  const point = (at: number) => ({ line: 1, column: 1, offset: at });
  return { type: "text", value, position: { start: point(offset), end: point(offset + value.length) } };
}

function setOff(text: Text): Element {
  return { type: "element", tagName: "span", properties: { dataUnverified: "" }, children: [text] };
}

/** `at` is where the mark stands in the source; null where that is not known. */
function mark(number: number, at: number | null): Element {
  return {
    type: "element",
    tagName: "sup",
    properties: { dataMark: String(number), ...(at === null ? {} : { dataAt: String(at) }) },
    children: [{ type: "text", value: `[${number}]` }],
  };
}
