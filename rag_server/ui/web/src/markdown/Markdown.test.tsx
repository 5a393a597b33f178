import type { ReactNode } from "react";
import { renderToStaticMarkup } from "react-dom/server";
import { beforeAll, describe, expect, test } from "vitest";
import { MarkContext, Markdown } from "./Markdown";
import { type Grounding, UNGROUNDED } from "./marks";
import { loadMathematics } from "./mathematics";

beforeAll(async () => {
  await loadMathematics();
});

function drawMark(number: number, at: number | null): ReactNode {
  return <i>{`${number}@${at}`}</i>;
}

function rendered(source: string, numPassages = 3, grounding: Grounding = UNGROUNDED): string {
  return renderToStaticMarkup(
    <MarkContext value={drawMark}>
      <Markdown source={source} numPassages={numPassages} grounding={grounding} />
    </MarkContext>,
  );
}

function parsed(html: string): Document {
  return new DOMParser().parseFromString(`<body>${html}</body>`, "text/html");
}

const HOSTILE = `<script>window.hacked = 1</script>
<img src=x onerror="hacked = 1"> <svg onload=alert(1)>

![remote](https://evil.example/x.png) [click](javascript:alert(1)) [data](data:text/html,x) [path](/v1/files)
<javascript:alert(1)> [odd](JaVaScRiPt:alert(1)) [tab](java\tscript:alert(1))

[![img](https://evil.example/i.png)](https://ok.example/) <https://auto.example> www.bare.example

| <b onclick=x> | b |
|---|---|
| ![t](//evil.example/t.png) | [vb](vbscript:x) |

$\\href{javascript:alert(1)}{x}$ $\\includegraphics{https://evil.example/k.png}$ $\\htmlStyle{background:url(//evil.example)}{y}$

<style>@import url(https://evil.example)</style>
<iframe src="https://evil.example"></iframe>`;

describe("hostile text", () => {
  const ALLOWED = /^(https?:|mailto:)/;

  function checkHarmless(html: string) {
    const page = parsed(html);
    expect(page.querySelectorAll("script, img, iframe, style, link, object, embed, form, meta").length).toBe(
      0,
    );
    for (const element of page.querySelectorAll("*")) {
      for (const { name, value } of element.attributes) {
        expect(name.startsWith("on")).toBe(false);
        if (name === "href" || name === "src") expect(value).toMatch(ALLOWED);
        if (name === "style") expect(value).not.toContain("url(");
      }
    }
  }

  test("nothing in it loads or runs, and what it was can be read", () => {
    const html = rendered(HOSTILE);
    checkHarmless(html);
    expect(html).toContain("&lt;script&gt;window.hacked = 1&lt;/script&gt;");
    expect(html).toContain("[image: remote]");
    expect(html).toContain('href="https://ok.example/"');
    expect(html).toContain('href="https://auto.example"');
  });

  test("no cut of it does", () => {
    for (let length = 0; length <= HOSTILE.length; length++)
      checkHarmless(rendered(HOSTILE.slice(0, length)));
  });
});

describe("marks", () => {
  test("a mark of a passage is drawn with its place, one without a passage stays text", () => {
    expect(rendered("Cats sleep [1]. Dogs [9] bark [2, 3; 9].")).toContain(
      "<p>Cats sleep <i>1@11</i>. Dogs [9] bark <i>2@30</i><i>3@30</i>.</p>",
    );
  });

  test("the place counts from the beginning of the whole answer", () => {
    expect(rendered("One.\n\nTwo [1]")).toContain("<i>1@10</i>");
  });

  test("brackets in code, mathematics and links are no marks", () => {
    expect(rendered("`a[1]` $x_{[1]}$ [1](https://ok.example) [text [2]](https://ok.example)")).not.toContain(
      "<i>1@",
    );
    expect(rendered("```\na[1]\n```")).not.toContain("<i>");
  });

  test("a link definition in the answer does not turn a mark into a link", () => {
    const html = rendered("Cats [1].\n\n[1]: https://evil.example");
    expect(html).toContain("<i>1@5</i>");
    expect(parsed(html).querySelectorAll("a[href]").length).toBe(1); // the bare address, as it is written
  });

  test("marks appear in emphasis, lists and tables", () => {
    expect(rendered("- **bold [1]**\n\n| a |\n|---|\n| cell [2] |").match(/<i>/g)?.length).toBe(2);
  });

  test("at every length of a growing answer a complete mark is drawn and an incomplete one is not", () => {
    const text = "Cats **sleep [1]** and [2, 3] eat.";
    for (let length = 0; length <= text.length; length++) {
      const html = rendered(text.slice(0, length));
      expect(html.includes("<i>1@")).toBe(length >= 16);
      expect(html.includes("<i>3@")).toBe(length >= 29);
    }
  });
});

describe("grounding", () => {
  test("an unsupported sentence is set off, across emphasis", () => {
    const text = "Cats sleep [1]. Dogs **never** bark.";
    const html = rendered(text, 3, { unverified: [{ start: 16, end: 36 }], unmarked: [] });
    const setOff = [...parsed(html).querySelectorAll(".md-unverified")].map((element) => element.textContent);
    expect(setOff.join("")).toBe("Dogs never bark.");
  });

  test("a supported sentence without a mark gets one at its end", () => {
    const html = rendered("Cats sleep. Dogs bark.", 3, {
      unverified: [],
      unmarked: [{ end: 11, number: 2 }],
    });
    expect(html).toContain("Cats sleep.<i>2@11</i> Dogs bark.");
  });

  test("a heading and a table claim nothing", () => {
    const text = "# Cats\n\n| a |\n|---|\n| b [1] |";
    const page = parsed(rendered(text, 3, { unverified: [{ start: 0, end: text.length }], unmarked: [] }));
    expect(page.querySelector(".md-unverified")).toBeNull();
    expect(page.querySelector("td i")?.textContent).toMatch(/^1@/);
  });

  test("offsets are those of the whole answer", () => {
    const html = rendered("One.\n\nTwo three four.", 3, {
      unverified: [{ start: 6, end: 21 }],
      unmarked: [],
    });
    expect(parsed(html).querySelector(".md-unverified")?.textContent).toBe("Two three four.");
  });
});

test("code, tables, lists to do and mathematics are formatted", () => {
  const page = parsed(
    rendered(
      "```python\nprint(1)\n```\n\n| a |\n|---|\n| b |\n\n- [x] done\n\n$x^2$\n\n$$\n\\frac{a}{b}\n$$",
    ),
  );
  expect(page.querySelector("pre code.hljs.language-python")).not.toBeNull();
  expect(page.querySelector("table td")?.textContent).toBe("b");
  expect(page.querySelector("input[type=checkbox]")).not.toBeNull();
  expect(page.querySelectorAll(".katex").length).toBe(2);
});

test("a block that is too long is shown as it is written", () => {
  const page = parsed(rendered(`${"word [1] ".repeat(4000)}\n\nShort **end**.`));
  expect(page.querySelector(".md-long pre")?.textContent).toContain("word [1]");
  expect(page.querySelector("strong")?.textContent).toBe("end");
});
