/** Where a quote is on the pages of a PDF. */

import { findPieces, type Span } from "./quotes";

/** The stretches to mark on each of consecutive pages, in UTF-16 units of its text; the quote may go on over the next. */
export function markedOn(pages: readonly string[], quote: string): Span[][] {
  const found = findPieces(pages.join(""), quote, 0);
  let start = 0;
  return pages.map((page) => {
    const from = start;
    start += page.length;
    return found
      .map((span) => ({ start: Math.max(span.start - from, 0), end: Math.min(span.end - from, page.length) }))
      .filter((span) => span.start < span.end);
  });
}
