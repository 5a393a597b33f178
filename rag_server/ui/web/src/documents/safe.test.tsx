import { renderToStaticMarkup } from "react-dom/server";
import { beforeAll, describe, expect, it } from "vitest";
import { loadMathematics } from "../markdown/mathematics";
import { harmlessPage } from "./harmless";
import { drawnPage } from "./html";
import { MarkdownView } from "./MarkdownView";
import { TangledError } from "./safe";

function page(markup: string, quote = "nowhere"): string {
  return renderToStaticMarkup(drawnPage(harmlessPage(markup), quote, 0, 2).page);
}

function markdown(source: string, start = 0, end = 0): string {
  const marking = { start, end, text: source.slice(start, end) };
  return renderToStaticMarkup(
    <MarkdownView source={source} marking={marking} level={2} onText={() => undefined} />,
  );
}

const ATTACKS = [
  "<script>alert(1)</script>",
  "<img src=x onerror=alert(1)>",
  '<img src="https://evil.example/pixel.png" srcset="https://evil.example/2x.png 2x">',
  '<a href="javascript:alert(1)">click</a>',
  '<a href=" java&#10;script:alert(1)">click</a>',
  '<a href="data:text/html,<script>alert(1)</script>">click</a>',
  '<a href="/v1/files">click</a><a href="//evil.example">click</a><a href="#/collections">click</a>',
  '<svg onload=alert(1)><a xlink:href="javascript:alert(1)"><text>click</text></a></svg>',
  '<math><a href="javascript:alert(1)">click</a></math>',
  "<style>body{background:url(https://evil.example/)}</style>",
  '<div style="background:url(https://evil.example/)" class="dialog" id="root" onclick="alert(1)">x</div>',
  '<iframe src="https://evil.example/"></iframe><iframe srcdoc="<script>alert(1)</script>"></iframe>',
  '<form action="https://evil.example/"><input name=key><button formaction="javascript:alert(1)">Go</button></form>',
  '<base href="https://evil.example/"><meta http-equiv=refresh content="0;url=https://evil.example/">',
  '<link rel=stylesheet href="https://evil.example/a.css"><object data="x"></object><embed src="x">',
  '<video src="https://evil.example/a.mp4" autoplay></video><audio src="x"></audio>',
  '<noscript><p title="</noscript><img src=x onerror=alert(1)>"></noscript>',
  "<template><img src=x onerror=alert(1)></template>",
  '<p><mark onmouseover="alert(1)">x</mark></p><input type=image src="https://evil.example/">',
  '<table background="https://evil.example/"><td background="https://evil.example/">x</td></table>',
];
/** Elements and attributes that load, run, send or lead into this server. */
const DANGEROUS =
  /<(script|img|svg|style|iframe|form|input|button|base|meta|link|object|embed|video|audio|template|noscript|math)\b|<[^>]*\s(on\w+|style|src|srcset|srcdoc|background|action|formaction|id|xlink:href)=|href="(?!https?:\/\/|mailto:)/i;

describe("a page", () => {
  it.each(ATTACKS)("is harmless with %s", (attack) => {
    const shown = page(`<!doctype html><title>t</title><body><p>before</p>${attack}<p>after</p>`);
    expect(shown).not.toMatch(DANGEROUS);
    expect(shown).not.toContain("alert(1)");
    expect(shown).toContain("<p>before</p>");
  });

  it("keeps its structure and its links to the web, which open elsewhere", () => {
    const shown = page(
      '<h1>A</h1><ul><li><a href="https://example.org/" class="x">b</a></ul><a href="mailto:a@b.example">c</a>',
    );
    expect(shown).toContain('<h3 class="doc-h1">A</h3>');
    expect(shown).toContain(
      '<li><a href="https://example.org/" target="_blank" rel="noreferrer noopener">b</a></li>',
    );
    expect(shown).toContain('href="mailto:a@b.example"');
  });

  it("shows an image as the text that stands for it", () => {
    expect(page('<p><img src="a.png" alt="A <b>cat"></p>')).toBe(
      '<p><span class="doc-image">[image: A &lt;b&gt;cat]</span></p>',
    );
  });

  it("leaves out what its readers did not see", () => {
    const shown = page(
      '<p>seen</p><!-- note --><p hidden>a1</p><div style="DISPLAY : none">b2<p>c3</p></div><p>end</p>',
    );
    expect(shown).toBe("<p>seen</p><p>end</p>");
  });

  it("gets its quote marked, across elements and entities, as text", () => {
    const { page, isFound } = drawnPage(
      harmlessPage("<p>Fish &amp; <b>chips</b> &lt;cheap&gt;</p>"),
      "Fish & chips <cheap>",
      0,
      2,
    );
    expect(isFound).toBe(true);
    expect(renderToStaticMarkup(page)).toBe(
      "<p><mark>Fish &amp; </mark><b><mark>chips</mark></b><mark> &lt;cheap&gt;</mark></p>",
    );
  });

  it("is refused when it is nested too deeply to be walked", () => {
    expect(() => harmlessPage("<div>".repeat(1000))).toThrow(TangledError);
    expect(() => harmlessPage("<div>".repeat(50_000))).toThrow();
  });

  it("is refused when its markup stands for too many elements", () => {
    const fonts = Array.from({ length: 100 }, (_, index) => `<font size=${index}>`).join("");
    expect(() => harmlessPage(`<p>${fonts}${"<p>x".repeat(2000)}`)).toThrow(TangledError);
  });
});

describe("Markdown", () => {
  beforeAll(loadMathematics);

  it.each(ATTACKS)("is harmless with %s", (attack) => {
    for (const source of [`before\n\n${attack}\n\nafter`, `before ${attack} after`]) {
      expect(markdown(source)).not.toMatch(DANGEROUS);
    }
  });

  it.each([
    "[a](javascript:alert(1))",
    "[a](<java\nscript:alert(1)>)",
    "[a](data:text/html;base64,PHNjcmlwdD4=)",
    "[a](/v1/files) [b](//evil.example) [c](#/collections)",
    "[a][r]\n\n[r]: vbscript:x",
    "<javascript:alert(1)>",
    "![a](https://evil.example/pixel.png)",
    "![a][r]\n\n[r]: https://evil.example/pixel.png",
    "note[^1]\n\n[^1]: here",
    "- [x] done\n- [ ] to do",
    "$\\href{javascript:alert(1)}{x}$",
    "$\\includegraphics{https://evil.example/pixel.png}$",
  ])("leads nowhere and loads nothing with %s", (source) => {
    // Formulas are drawn with styles of their own, which the browser is given one by one.
    const shown = markdown(source).replace(/<span class="katex[\s\S]*<\/span>/, "");
    expect(shown).not.toMatch(DANGEROUS);
    expect(markdown(source)).not.toMatch(/<img|href="javascript|src="https/i);
  });

  it("shows the text within its HTML, and not the tags", () => {
    expect(markdown("a <b>bold</b> <!-- no --> word")).toContain("<p>a bold  word</p>");
  });

  it("marks a stretch of its source across what is laid out of it", () => {
    const source = "# Title\n\n1. Take **two** &amp; `go`\n2. Take two & go\n";
    const start = source.lastIndexOf("Take");
    expect(markdown(source, start, start + 15)).toContain("<li><mark>Take two &amp; go</mark></li>");
    const first = source.indexOf("Take");
    expect(markdown(source, first, first + 23)).toContain(
      "<li><mark>Take </mark><strong><mark>two</mark></strong><mark> &amp; </mark><code><mark>go</mark></code></li>",
    );
  });

  it("counts offsets in characters, and shows front matter as it is written", () => {
    const source = "---\ntitle: 😀\n---\n\nA 😀 word\n";
    const start = [...source].length - 5;
    const shown = markdown(source, start, start + 4);
    expect(shown).toContain("<p>A 😀 <mark>word</mark></p>");
    expect(shown).toContain("title: 😀");
  });

  it("draws formulas", () => {
    expect(markdown("$x^2$")).toContain('class="katex"');
  });
});
