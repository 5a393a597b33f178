/** Colours code in the languages that answers are mostly written in; others stay plain. */

import type { ElementContent, Root } from "hast";
import bash from "highlight.js/lib/languages/bash";
import c from "highlight.js/lib/languages/c";
import cpp from "highlight.js/lib/languages/cpp";
import css from "highlight.js/lib/languages/css";
import diff from "highlight.js/lib/languages/diff";
import go from "highlight.js/lib/languages/go";
import java from "highlight.js/lib/languages/java";
import javascript from "highlight.js/lib/languages/javascript";
import json from "highlight.js/lib/languages/json";
import python from "highlight.js/lib/languages/python";
import rust from "highlight.js/lib/languages/rust";
import sql from "highlight.js/lib/languages/sql";
import typescript from "highlight.js/lib/languages/typescript";
import xml from "highlight.js/lib/languages/xml";
import yaml from "highlight.js/lib/languages/yaml";
import { createLowlight } from "lowlight";
import { visit } from "unist-util-visit";

const LANGUAGES = {
  bash,
  c,
  cpp,
  css,
  diff,
  go,
  java,
  javascript,
  json,
  python,
  rust,
  sql,
  typescript,
  xml,
  yaml,
};
const NAMED = /^language-(.+)$/;
const lowlight = createLowlight(LANGUAGES);

/** A rehype plugin. rehype-highlight would do the same, with 22 more languages in every page. */
export function rehypeHighlighting() {
  return (tree: Root) => {
    visit(tree, "element", (element, _, parent) => {
      if (element.tagName !== "code" || parent?.type !== "element" || parent.tagName !== "pre") return;
      const [text] = element.children;
      const names = Array.isArray(element.properties.className)
        ? element.properties.className.map(String)
        : [];
      const language = names.map((name) => NAMED.exec(name)?.[1]).find((name) => name !== undefined);
      if (text?.type !== "text" || language === undefined || !lowlight.registered(language)) return;
      element.properties.className = ["hljs", ...names];
      element.children = lowlight.highlight(language, text.value).children as ElementContent[];
    });
  };
}
