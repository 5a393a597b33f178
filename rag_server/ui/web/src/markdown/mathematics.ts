/** Mathematics by KaTeX, which is large: loaded when a text has some. */

import { useEffect, useState } from "react";
import type { Options } from "react-markdown";

type Plugins = NonNullable<Options["rehypePlugins"]>;

// No macros without end, no links, nothing from elsewhere: what is written may be anybody's.
const KATEX = { strict: "ignore", trust: false, maxSize: 20, maxExpand: 100 };
let loaded: Plugins | null = null;

export async function loadMathematics(): Promise<Plugins> {
  const [{ default: rehypeKatex }] = await Promise.all([
    import("rehype-katex"),
    import("katex/dist/katex.min.css"),
  ]);
  loaded = [[rehypeKatex, KATEX]];
  return loaded;
}

/** Returns the plugin once it is there; until then mathematics is shown as it is written. */
export function useMathematics(source: string): Plugins {
  const isWanted = source.includes("$");
  const [plugins, setPlugins] = useState(loaded ?? []);
  useEffect(() => {
    if (isWanted && plugins.length === 0) void loadMathematics().then(setPlugins);
  }, [isWanted, plugins]);
  return isWanted ? plugins : [];
}
