import { describe, expect, it } from "vitest";
import type { Range } from "./api";
import { blocksOf, earlier, later, STEP } from "./windows";

const NONE = { start: 0, end: 0 };

describe("earlier and later", () => {
  it("end where the document does", () => {
    expect(earlier({ start: 0, end: 10 })).toBeNull();
    expect(later({ start: 0, end: 10 }, 10)).toBeNull();
  });

  it("are the stretches next to what is shown, without gap or overlap", () => {
    expect(earlier({ start: 500_000, end: 900_000 })).toEqual({ start: 500_000 - STEP, end: 500_000 });
    expect(later({ start: 500_000, end: 900_000 }, 2_000_000)).toEqual({
      start: 900_000,
      end: 900_000 + STEP,
    });
    expect(earlier({ start: 5, end: 9 })).toEqual({ start: 0, end: 5 });
    expect(later({ start: 5, end: 9 }, 12)).toEqual({ start: 9, end: 12 });
  });

  it("reach every character of a document from its middle", () => {
    const characters = 1_234_567;
    const shown = [{ start: 600_000, end: 1_000_000 }];
    const step = (next: (range: Range) => Range | null, from: Range | undefined) =>
      from ? next(from) : null;
    for (let before = step(earlier, shown[0]); before; before = earlier(before)) shown.unshift(before);
    const toEnd = (range: Range) => later(range, characters);
    for (let after = step(toEnd, shown.at(-1)); after; after = toEnd(after)) shown.push(after);
    expect(shown[0]?.start).toBe(0);
    expect(shown.at(-1)?.end).toBe(characters);
    for (const [index, one] of shown.slice(1).entries()) expect(one.start).toBe(shown[index]?.end);
  });
});

describe("blocksOf", () => {
  const plain = (text: string) =>
    blocksOf(text, NONE, NONE).map((pieces) => pieces.map(({ text }) => text).join(""));

  it("loses nothing, and makes few blocks of a long text", () => {
    const text = "A line of words, and more of them.\n".repeat(12_000);
    const blocks = plain(text);
    expect(blocks.join("")).toBe(text);
    expect(blocks.length).toBeLessThan(120);
    expect(blocks.slice(0, -1).every((block) => block.endsWith("\n"))).toBe(true);
  });

  it("cuts a text without lines after a word, and one without words between characters", () => {
    const words = "word ".repeat(20_000);
    expect(
      plain(words)
        .slice(0, -1)
        .every((block) => block.endsWith(" ")),
    ).toBe(true);
    const faces = `x${"😀".repeat(20_000)}`;
    expect(plain(faces).join("")).toBe(faces);
    expect(plain(faces).every((block) => block.isWellFormed())).toBe(true);
  });

  it("sets off the mark within the passage", () => {
    const [pieces] = blocksOf(
      "before passage quote passage after",
      { start: 7, end: 28 },
      { start: 15, end: 20 },
    );
    expect(pieces).toEqual([
      { text: "before ", isPassage: false, isMarked: false },
      { text: "passage ", isPassage: true, isMarked: false },
      { text: "quote", isPassage: true, isMarked: true },
      { text: " passage", isPassage: true, isMarked: false },
      { text: " after", isPassage: false, isMarked: false },
    ]);
  });

  it("marks a passage that goes on over several blocks in each of them", () => {
    const text = "0123456789 123456789\n".repeat(1000);
    const span = { start: 100, end: 15_000 };
    const marked = blocksOf(text, span, span)
      .flat()
      .filter(({ isMarked }) => isMarked);
    expect(marked.map((piece) => piece.text).join("")).toBe(text.slice(100, 15_000));
    expect(marked.length).toBeGreaterThan(2);
  });
});
