import { expect, test } from "vitest";
import { marked } from "./marking";

/** The text with marked stretches in brackets. */
function shown(text: string, query: string): string {
  return marked(text, query)
    .map((piece) => (piece.isMarked ? `[${piece.text}]` : piece.text))
    .join("");
}

test.each([
  ["case", "The Cat and the CAT", "cat", "The [Cat] and the [CAT]"],
  ["diacritics of the text", "Café, cafe\u0301s", "cafe", "[Café], [cafe\u0301]s"],
  ["diacritics of the query", "Uber uns", "Über", "[Uber] uns"],
  ["beginnings of longer words", "transformers transform", "transform", "[transform]ers [transform]"],
  ["no ends of words", "the platform form", "form", "the platform [form]"],
  ["short words only whole", "it is item", "it", "[it] is item"],
  ["the longer of two words", "transformers", "trans transformer", "[transformer]s"],
  [
    "characters that regular expressions know",
    "a.b C++ (x) [y] \\d",
    "C++ .* ( [ \\",
    "a.b [C]++ (x) [y] \\d",
  ],
  ["Hebrew with a prefix", "בית הספר שלי", "ספר", "בית ה[ספר] שלי"],
  ["Arabic without its vowel signs", "الكِتَابُ هنا", "كتاب", "ال[كِتَابُ] هنا"],
  ["Chinese, which has no spaces", "我们使用神经网络。", "神经网络", "我们使用[神经网络]。"],
  ["Greek at the end of a word", "ΟΔΟΣ οδός", "οδος", "[ΟΔΟΣ] [οδός]"],
  ["ligatures, as PDFs have them", "ﬁnal ofﬁce", "final", "[ﬁnal] ofﬁce"],
  ["ligatures as a whole", "proﬁt", "prof", "[proﬁ]t"],
  ["Hindi vowels tell words apart", "कल काल", "काल", "कल [काल]"],
  ["characters of two units", "😀 data 😀", "data", "😀 [data] 😀"],
])("marks %s", (_, text, query, expected) => {
  expect(shown(text, query)).toBe(expected);
});

test("loses nothing of the text", () => {
  const text = "İstanbul ﬁ e\u0301e\u0301 \ud800 한국어 ß";
  for (const query of ["i e ﬁ", "", "한국", "\ud800", "ss"]) {
    expect(
      marked(text, query)
        .map((piece) => piece.text)
        .join(""),
    ).toBe(text);
  }
});
