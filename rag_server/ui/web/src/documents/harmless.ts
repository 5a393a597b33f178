import type { Root } from "hast";
import rehypeParse from "rehype-parse";
import { unified } from "unified";
import { safe } from "./safe";

/** @throws TangledError, RangeError The page cannot be laid out. */
export function harmlessPage(markup: string): Root {
  return safe(unified().use(rehypeParse).parse(markup));
}
