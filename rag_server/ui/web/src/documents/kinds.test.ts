import { describe, expect, it } from "vitest";
import { isTangled, isTooLong, kindOf, MAX_CHARACTERS } from "./kinds";

describe("kindOf", () => {
  it.each([
    ["a.pdf", "pdf"],
    ["A.B.PDF", "pdf"],
    ["a.htm", "html"],
    ["a.md", "markdown"],
    ["a.docx", null],
    ["pdf", null],
    ["a.md.txt", null],
    ["", null],
  ])("tells from the name %j that it is shown as %j", (name, kind) => {
    expect(kindOf(name)).toBe(kind);
  });
});

describe("isTooLong", () => {
  it("is said of what is laid out as a whole, and not of pages", () => {
    expect(isTooLong("markdown", MAX_CHARACTERS + 1)).toBe(true);
    expect(isTooLong("html", MAX_CHARACTERS)).toBe(false);
    expect(isTooLong("pdf", MAX_CHARACTERS + 1)).toBe(false);
  });
});

describe("isTangled", () => {
  it("is said of a paragraph full of markers, and not of many plain paragraphs", () => {
    expect(isTangled("*a_ ".repeat(5000))).toBe(true);
    expect(isTangled(">".repeat(5000))).toBe(true);
    expect(isTangled("Some *words* and `code`.\n \n".repeat(5000))).toBe(false);
  });
});
