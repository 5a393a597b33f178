/** Finds a quote in a text that was made from the same document in another way, and marks it. */

import type { Element, ElementContent, Root, RootContent, Text } from "hast";

/** A stretch of a text in UTF-16 units. */
export interface Span {
  start: number;
  end: number;
}

/** The letters and digits of a text, and where in it each stands. White space, punctuation, accents and markup are left out. */
interface Folded {
  letters: string;
  at: number[];
}

/** Shorter pieces of a quote are found where they do not belong. */
const MIN_PIECE = 20;
const FIRST_CHARACTERS = [80, 40];
const SENTENCE_END = /(?<=[.!?。！？])\s+|\n+/u;

/**
 * Puts <mark> around the quote, across elements where need be.
 *
 * @param near Where in the text it is, from 0 to 1: of several occurrences the nearest is marked.
 * @returns Whether it, or at least a good piece of it, was found.
 */
export function markQuote(tree: Root, quote: string, near: number): boolean {
  const texts = textsOf(tree);
  const spans = findPieces(texts.map(({ node }) => node.value).join(""), quote, near);
  const starts = new Map<Text, number>();
  let at = 0;
  for (const { node } of texts) {
    starts.set(node, at);
    at += node.value.length;
  }
  wrap(tree, (node) => {
    const start = starts.get(node) ?? 0;
    return spans.map((span) => ({ start: span.start - start, end: span.end - start }));
  });
  return spans.length > 0;
}

/**
 * Puts <mark> around what a tree made from Markdown shows of a stretch of the source.
 *
 * @returns Whether it shows anything of it.
 */
export function markSource(tree: Root, source: string, { start, end }: Span): boolean {
  const sources = new Map(textsOf(tree).map(({ node, source }) => [node, source]));
  return wrap(tree, (node) => {
    const of = sources.get(node);
    if (of === undefined || of.start >= end || of.end <= start) return [];
    const shown = aligned(source.slice(of.start, of.end), node.value);
    return [{ start: shown(start - of.start), end: shown(end - of.start) }];
  });
}

/** Returns where the quote is; where it is not found as a whole, its sentences; where they are not, its beginning. */
export function findPieces(text: string, quote: string, near: number): Span[] {
  const folded = fold(text);
  const whole = find(text, folded, quote, near);
  if (whole !== null) return [whole];
  const sentences = quote.split(SENTENCE_END).filter((piece) => fold(piece).letters.length >= MIN_PIECE);
  const found = sentences.map((piece) => find(text, folded, piece, near)).filter((span) => span !== null);
  if (found.length > 0) return found.sort((one, other) => one.start - other.start);
  for (const count of FIRST_CHARACTERS) {
    const piece = [...quote.trim()].slice(0, count).join("");
    const span = fold(piece).letters.length < MIN_PIECE ? null : find(text, folded, piece, near);
    if (span !== null) return [span];
  }
  return [];
}

function find(text: string, { letters, at }: Folded, quote: string, near: number): Span | null {
  const wanted = fold(quote);
  if (wanted.letters === "") return null;
  let best = -1;
  const aim = near * letters.length;
  for (
    let index = letters.indexOf(wanted.letters);
    index >= 0;
    index = letters.indexOf(wanted.letters, index + 1)
  ) {
    if (best < 0 || Math.abs(index - aim) < Math.abs(best - aim)) best = index;
  }
  if (best < 0) return null;
  const start = at[best] ?? 0;
  const end = after(text, at[best + wanted.letters.length - 1] ?? 0);
  // Brackets and stops around the letters belong to the quote, if they are there.
  const head = quote.slice(0, wanted.at[0]).trimStart();
  const tail = quote.slice(after(quote, wanted.at.at(-1) ?? 0)).trimEnd();
  return {
    start: text.slice(0, start).endsWith(head) ? start - head.length : start,
    end: text.startsWith(tail, end) ? end + tail.length : end,
  };
}

/** Compatible forms become the same (NFKD), as files write ligatures and accents in different ways. */
function fold(text: string): Folded {
  const letters: string[] = [];
  const at: number[] = [];
  let unit = 0;
  for (const character of text) {
    for (const part of character < "\x80" ? character : character.normalize("NFKD")) {
      if (!/[\p{L}\p{N}]/u.test(part)) continue;
      letters.push(part);
      for (let count = 0; count < part.length; count++) at.push(unit);
    }
    unit += character.length;
  }
  return { letters: letters.join(""), at };
}

function after(text: string, unit: number): number {
  return unit + ((text.codePointAt(unit) ?? 0) > 0xffff ? 2 : 1);
}

interface TextOf {
  node: Text;
  /** Where it comes from; that of the element around it where its own is not known. */
  source: Span | undefined;
}

function textsOf(tree: Root | Element, around?: Span): TextOf[] {
  return tree.children.flatMap((child: RootContent): TextOf[] => {
    const { start, end } = child.position ?? {};
    const source =
      start?.offset === undefined || end?.offset === undefined
        ? around
        : { start: start.offset, end: end.offset };
    if (child.type === "text") return [{ node: child, source }];
    return child.type === "element" ? textsOf(child, source) : [];
  });
}

/** Returns where in the shown text something is, from where in its source it is: escapes and entities are shorter there. */
function aligned(source: string, shown: string): (offset: number) => number {
  const within = source.indexOf(shown);
  if (within >= 0) return (offset) => Math.min(Math.max(offset - within, 0), shown.length);
  const places = new Array<number>(source.length + 1).fill(shown.length);
  let at = 0;
  let offset = 0;
  while (offset < source.length && at < shown.length) {
    const entity = /^&[#\w]{1,32};/.exec(source.slice(offset, offset + 34))?.[0] ?? "";
    if (source[offset] === shown[at] && entity === "") {
      places[offset++] = at++;
    } else {
      const size = entity.length || 1;
      places.fill(at, offset, offset + size);
      offset += size;
      if (entity !== "") at = after(shown, at);
    }
  }
  return (wanted) => places[Math.min(Math.max(wanted, 0), source.length)] ?? shown.length;
}

/** Wraps the stretches of each text; returns whether there were any. */
function wrap(tree: Root | Element, spansOf: (node: Text) => Span[]): boolean {
  let isAny = false;
  tree.children = (tree.children as ElementContent[]).flatMap((child) => {
    if (child.type === "element" && wrap(child, spansOf)) isAny = true;
    // Between the rows of a table there is white space, and no place for a mark.
    if (child.type !== "text" || child.value.trim() === "") return [child];
    const pieces = wrapped(child.value, spansOf(child));
    if (pieces.length > 1 || pieces[0]?.type === "element") isAny = true;
    return pieces;
  });
  return isAny;
}

function wrapped(value: string, spans: Span[]): ElementContent[] {
  const pieces: ElementContent[] = [];
  let at = 0;
  for (const span of spans) {
    const start = Math.max(span.start, at);
    const end = Math.min(span.end, value.length);
    if (start >= end) continue;
    if (start > at) pieces.push({ type: "text", value: value.slice(at, start) });
    const text: Text = { type: "text", value: value.slice(start, end) };
    pieces.push({ type: "element", tagName: "mark", properties: {}, children: [text] });
    at = end;
  }
  if (at < value.length) pieces.push({ type: "text", value: value.slice(at) });
  return pieces;
}
