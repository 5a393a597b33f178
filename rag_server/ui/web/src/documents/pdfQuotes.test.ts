import { describe, expect, it } from "vitest";
import { markedOn } from "./pdfQuotes";

/** What is marked of each page. */
function marked(pages: string[], quote: string): string[][] {
  return markedOn(pages, quote).map((spans, index) =>
    spans.map(({ start, end }) => pages[index]?.slice(start, end) ?? ""),
  );
}

describe("markedOn", () => {
  it("finds a quote whose words the page divides and runs together", () => {
    expect(marked(["An exam-ple of textwithout spaces"], "example of text without")).toEqual([
      ["exam-ple of textwithout"],
    ]);
  });

  it("marks both pages of a quote that goes on over the next one", () => {
    expect(marked(["It began here", "and ended there."], "here\nand ended")).toEqual([
      ["here"],
      ["and ended"],
    ]);
  });

  it("marks nothing where the quote is not", () => {
    expect(marked(["One", "Two"], "Three")).toEqual([[], []]);
  });
});
