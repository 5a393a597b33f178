import type { Element, Root, RootContent } from "hast";
import { describe, expect, it } from "vitest";
import { findPieces, markQuote, markSource } from "./quotes";

const text = (value: string, start?: number, end?: number): RootContent => ({
  type: "text",
  value,
  ...(start === undefined || end === undefined ? {} : { position: positionOf(start, end) }),
});
const element = (tagName: string, ...children: RootContent[]): Element => ({
  type: "element",
  tagName,
  properties: {},
  children: children as Element["children"],
});
const root = (...children: RootContent[]): Root => ({ type: "root", children });

function positionOf(start: number, end: number) {
  const point = (offset: number) => ({ line: 1, column: 1, offset });
  return { start: point(start), end: point(end) };
}

/** Writes marks as brackets, and elements as their names. */
function written(node: Root | RootContent): string {
  if (node.type === "text") return node.value;
  if (!("children" in node)) return "";
  const inner = node.children.map(written).join("");
  if (node.type === "root") return inner;
  if (node.type !== "element") return "";
  return node.tagName === "mark" ? `[${inner}]` : `<${node.tagName}>${inner}</${node.tagName}>`;
}

function marked(tree: Root, quote: string, near = 0): string {
  const isFound = markQuote(tree, quote, near);
  return isFound ? written(tree) : `not found: ${written(tree)}`;
}

describe("markQuote", () => {
  it("marks a quote within one text", () => {
    expect(marked(root(element("p", text("One two three."))), "two")).toBe("<p>One [two] three.</p>");
  });

  it("marks a quote across elements, in each text that it covers", () => {
    const tree = root(
      element("p", text("A "), element("em", text("small")), text(" step")),
      element("p", text("for man.")),
    );
    expect(marked(tree, "small step\n\nfor")).toBe("<p>A <em>[small]</em>[ step]</p><p>[for] man.</p>");
  });

  it("does not care for white space, here or there", () => {
    expect(marked(root(text("one\n   two\u00a0three")), "one two\tthree")).toBe("[one\n   two\u00a0three]");
  });

  it("leaves the white space between rows of a table alone, where a mark has no place", () => {
    const cells = element("tr", element("td", text("a1")), text("\n"), element("td", text("b2")));
    expect(marked(root(cells), "a1 | b2")).toBe("<tr><td>[a1]</td>\n<td>[b2]</td></tr>");
  });

  it("marks the occurrence that is nearest", () => {
    const tree = () => root(text("the cat, the dog, the cow, the cat"));
    expect(marked(tree(), "the cat", 0)).toBe("[the cat], the dog, the cow, the cat");
    expect(marked(tree(), "the cat", 0.9)).toBe("the cat, the dog, the cow, [the cat]");
  });

  it("ignores the markers of Markdown in the quote", () => {
    expect(marked(root(text("Use bold code here")), "Use **bold** `code`")).toBe("[Use bold code] here");
  });

  it("takes the stops and quotation marks around the letters along where they are there", () => {
    expect(marked(root(text('He said "no." Then')), '"no."')).toBe('He said ["no."] Then');
    expect(marked(root(text("He said no! Then")), '"no."')).toBe("He said [no]! Then");
  });

  it("cuts no character beyond the first plane in two", () => {
    expect(marked(root(text("x 𝒜𠀀 y 😀 𠀁 z")), "𠀀 y 😀 𠀁")).toBe("x 𝒜[𠀀 y 😀 𠀁] z");
  });

  it("takes a whole pair along where the quote has one letter for it", () => {
    expect(marked(root(text("x 𝒜 y")), "x A")).toBe("[x 𝒜] y");
  });

  it("takes ligatures and composed accents for their parts", () => {
    expect(marked(root(text("the ﬁrst cafe\u0301s")), "first cafés")).toBe("the [ﬁrst cafe\u0301s]");
  });

  it("says that a quote is not there, and marks nothing", () => {
    expect(marked(root(element("p", text("One two"))), "three")).toBe("not found: <p>One two</p>");
    expect(marked(root(element("p", text("One two"))), "…!")).toBe("not found: <p>One two</p>");
  });
});

describe("findPieces", () => {
  it("finds the sentences of a quote of which the whole is not there", () => {
    const found = "The first sentence is long enough. FOOTER 12 The second sentence is long enough, too.";
    const quote = "The first sentence is long enough. The second sentence is long enough, too.";
    expect(findPieces(found, quote, 0).map(({ start, end }) => found.slice(start, end))).toEqual([
      "The first sentence is long enough.",
      "The second sentence is long enough, too.",
    ]);
  });

  it("finds the beginning of a quote that goes on differently", () => {
    const found =
      "Before. The committee met in the old library on Monday and decided nothing at all that day.";
    const quote =
      "The committee met in the old library on Monday and decided nothing more, ever, about anything";
    const [span] = findPieces(found, quote, 0);
    expect(found.slice(span?.start, span?.end)).toBe("The committee met in the old library on");
  });

  it("takes no short piece for the quote", () => {
    expect(findPieces("yes it is", "yes. But this is nowhere in the text, I fear.", 0)).toEqual([]);
  });
});

describe("markSource", () => {
  function markedSource(tree: Root, source: string, part: string): string {
    const start = source.indexOf(part);
    const isAny = markSource(tree, source, { start, end: start + part.length });
    return isAny ? written(tree) : `nothing: ${written(tree)}`;
  }

  it("marks the occurrence that the offsets name", () => {
    const source = "same **same** same";
    const tree = root(text("same ", 0, 5), element("strong", text("same", 7, 11)), text(" same", 13, 18));
    expect(markedSource(tree, source, "same** sa")).toBe("same <strong>[same]</strong>[ sa]me");
  });

  it("counts an entity and an escape as the character that they stand for", () => {
    const source = "a &amp; b \\* c";
    expect(markedSource(root(text("a & b * c", 0, source.length)), source, "b \\* c")).toBe("a & [b * c]");
    expect(markedSource(root(text("a & b * c", 0, source.length)), source, "a &amp; ")).toBe("[a & ]b * c");
  });

  it("finds the text of code within its fence", () => {
    const source = "```python\nprint(1)\n```";
    const code = { ...element("code", text("print(1)\n")), position: positionOf(0, source.length) };
    expect(markedSource(root(code), source, "print")).toBe("<code>[print](1)\n</code>");
  });

  it("says that nothing of the stretch is shown", () => {
    const source = "[a]: https://example.org\n\ntext";
    expect(markedSource(root(text("text", 26, 30)), source, "example")).toBe("nothing: text");
  });
});
