import { describe, expect, it } from "vitest";
import { markingOf } from "./marking";

describe("markingOf", () => {
  const passage = { start: 100, end: 107, text: "a😀bcdef" };

  it("counts offsets in characters, not in UTF-16 units", () => {
    expect(markingOf(passage, { start: 101, end: 103 })).toEqual({ start: 101, end: 103, text: "😀b" });
  });

  it("is the whole passage without a quote, and where the quote is not in it", () => {
    expect(markingOf(passage, null)).toEqual(passage);
    expect(markingOf(passage, { start: 5, end: 9 })).toEqual(passage);
  });

  it("ends with the passage", () => {
    expect(markingOf(passage, { start: 105, end: 999 })).toEqual({ start: 105, end: 107, text: "ef" });
  });
});
