/** The Markdown that is read: CommonMark with tables, strikethrough, task lists, links and mathematics. */

import type { Processor } from "unified";

/** Constructs of which one block means something for another. */
export const ACROSS_BLOCKS = ["definition", "gfmFootnoteDefinition", "gfmFootnoteCall"];

/** A remark plugin: takes away what works across blocks. */
export function remarkWithinBlocks(this: Processor): void {
  const data = this.data() as { micromarkExtensions?: unknown[] };
  data.micromarkExtensions = [...(data.micromarkExtensions ?? []), { disable: { null: ACROSS_BLOCKS } }];
}
