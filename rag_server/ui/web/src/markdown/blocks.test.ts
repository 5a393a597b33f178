import type { Root } from "mdast";
import remarkGfm from "remark-gfm";
import remarkMath from "remark-math";
import remarkParse from "remark-parse";
import { unified } from "unified";
import { expect, test } from "vitest";
import { blocksOf } from "./blocks";
import { remarkWithinBlocks } from "./dialect";

const TEXT = `# Heading

A paragraph with **bold**
over two lines
===

- a list
- of two

  with a paragraph inside

1. another
2. list

    indented code

\`\`\`python
def f():

    return "[1]"
\`\`\`

| a | b |
|---|---|
| 1 | 2 |
| \`code\` | where [1] |
|  | \`a|b\` |

$$
x^2

y
$$

> quoted
continued

***
[1]: https://example.org
End 🙂 [1].`;

test("the blocks are those of the whole text, and together the text", () => {
  const blocks = blocksOf(TEXT);
  const whole: Root = unified()
    .use(remarkParse)
    .use(remarkGfm)
    .use(remarkMath)
    .use(remarkWithinBlocks)
    .parse(TEXT);
  expect(blocks.map(({ source }) => source).join("")).toBe(TEXT);
  expect(blocks.length).toBe(whole.children.length);
  for (const { start, source } of blocks) expect(TEXT.slice(start, start + source.length)).toBe(source);
});

test("a text that grows character by character has the blocks of its end, and its earlier blocks stay the same objects", () => {
  let blocks = blocksOf("");
  let kept = 0;
  for (let length = 1; length <= TEXT.length; length++) {
    const before = blocks;
    blocks = blocksOf(TEXT.slice(0, length), before);
    kept += blocks.filter((block, index) => index < blocks.length - 1 && block === before[index]).length;
  }
  expect(blocks).toEqual(blocksOf(TEXT));
  expect(kept).toBeGreaterThan(1000);
});

test("another text is read anew", () => {
  const blocks = blocksOf("One.\n\nTwo.\n\nThree.");
  expect(blocksOf("Other.\n\nText.", blocks).map(({ source }) => source)).toEqual(["Other.\n\n", "Text."]);
  expect(blocksOf("", blocks)).toEqual([]);
});
