/** From the bytes of a page to what is drawn of it. */

import type { Root } from "hast";
import { type Components, toJsxRuntime } from "hast-util-to-jsx-runtime";
import type { JSX } from "react";
import { Fragment, jsx, jsxs } from "react/jsx-runtime";
import rehypeParse from "rehype-parse";
import { unified } from "unified";
import { elementsBelow } from "./layout";
import { markQuote } from "./quotes";
import { safe } from "./safe";

export function harmlessPage(markup: string): Root {
  return safe(unified().use(rehypeParse).parse(markup));
}

/** @returns The page with the quote marked, and whether it is; `near` as in markQuote. */
export function drawnPage(
  page: Root,
  quote: string,
  near: number,
  level: number,
): { page: JSX.Element; isFound: boolean } {
  const tree = structuredClone(page);
  const isFound = markQuote(tree, quote, near);
  const components = elementsBelow(level) as Partial<Components>;
  return { page: toJsxRuntime(tree, { Fragment, jsx, jsxs, components }) as JSX.Element, isFound };
}
