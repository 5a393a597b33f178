/** What is drawn of a page that was made harmless. */

import type { Root } from "hast";
import { type Components, toJsxRuntime } from "hast-util-to-jsx-runtime";
import type { JSX } from "react";
import { Fragment, jsx, jsxs } from "react/jsx-runtime";
import { elementsBelow } from "./layout";
import { markQuote } from "./quotes";

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
