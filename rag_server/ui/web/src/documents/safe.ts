/** Makes a stranger's document harmless: text and its structure stay, nothing loads, runs or leads into this server. */

import type { Element, ElementContent, Root, RootContent } from "hast";
import rehypeSanitize, { defaultSchema, type Options } from "rehype-sanitize";

/** Deeper ones would overflow the stack of whatever walks them. */
const MAX_DEPTH = 200;
/** More would hold up the page. */
const MAX_NODES = 150_000;
/** The same as the server leaves out when it reads a page. */
const INVISIBLE = new Set(
  "audio canvas desc iframe noembed noframes noscript object script style template title video".split(" "),
);
const HIDING_STYLE = /display\s*:\s*none|visibility\s*:\s*hidden/i;
const WEB = /^(https?:\/\/|mailto:)/i;

const SCHEMA: Options = {
  tagNames: [
    ..."a abbr address article aside b bdi bdo blockquote br caption cite code dd del details dfn div dl dt em".split(
      " ",
    ),
    ..."figcaption figure footer h1 h2 h3 h4 h5 h6 header hr i img ins kbd li main nav ol p pre q s samp".split(
      " ",
    ),
    ..."section small span strong sub summary sup table tbody td tfoot th thead time tr u ul var wbr".split(
      " ",
    ),
  ],
  attributes: {
    a: ["href"],
    // Without an address it is only what it stands for.
    img: ["alt"],
    ol: ["start"],
    td: ["colSpan", "rowSpan"],
    th: ["colSpan", "rowSpan"],
    code: [["className", "language-math", "math-inline", "math-display"]],
    "*": ["dir", "lang"],
  },
  protocols: { href: ["http", "https", "mailto"] },
  ancestors: defaultSchema.ancestors ?? {},
  strip: [...INVISIBLE],
};
const sanitized = rehypeSanitize(SCHEMA);

/** The document is nested too deeply, or has too many elements, to be laid out. */
export class TangledError extends Error {}

/** @throws TangledError */
export function safe(tree: Root): Root {
  checkSize(tree);
  return withWebLinks(sanitized(withoutHidden(tree)) as Root);
}

/** A rehype plugin for Markdown, whose HTML is shown as the text in it. */
export function rehypeSafe() {
  return (tree: Root): Root => safe(withoutTags(tree));
}

function checkSize(tree: Root): void {
  let level: (Root | RootContent)[] = [tree];
  let count = 0;
  for (let depth = 0; level.length > 0; depth++) {
    count += level.length;
    if (depth > MAX_DEPTH || count > MAX_NODES) throw new TangledError();
    level = level.flatMap((node) => ("children" in node ? node.children : []));
  }
}

function mapped<T extends Root | Element>(parent: T, map: (child: RootContent) => ElementContent[]): T {
  const children = (parent.children as RootContent[]).flatMap((child) =>
    map(child).map((one) => (one.type === "element" ? mapped(one, map) : one)),
  );
  return { ...parent, children };
}

function withoutHidden(tree: Root): Root {
  return mapped(tree, (child) => {
    if (child.type === "text") return [child];
    if (child.type !== "element" || isHidden(child)) return [];
    if (child.tagName === "input" && child.properties.type === "checkbox") return [box(child)];
    return [child];
  });
}

function isHidden({ tagName, properties }: Element): boolean {
  if (INVISIBLE.has(tagName)) return true;
  return (properties.hidden ?? false) !== false || HIDING_STYLE.test(String(properties.style ?? ""));
}

function box({ properties }: Element): ElementContent {
  return { type: "text", value: properties.checked ? "☑" : "☐" };
}

/** A path would lead into this server. */
function withWebLinks(tree: Root): Root {
  return mapped(tree, (child) => {
    if (child.type !== "element" || child.tagName !== "a") return [child as ElementContent];
    const href = String(child.properties.href ?? "");
    return [{ ...child, properties: WEB.test(href) ? { href } : {} }];
  });
}

function withoutTags(tree: Root): Root {
  return mapped(tree, (child) => {
    if ((child as { type: string }).type !== "raw") return [child as ElementContent];
    const { value, position } = child as unknown as { value: string; position?: Element["position"] };
    const text = value
      .replace(/<!--[\s\S]*?(?:-->|$)|<(script|style)\b[\s\S]*?(?:<\/\1\s*>|$)/gi, "")
      .replace(/<[^<>]*>/g, "");
    return [{ type: "text", value: text, ...(position ? { position } : {}) }];
  });
}
