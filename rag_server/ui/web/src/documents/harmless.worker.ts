/** Reads a page beside the main thread: a few bytes of markup may stand for millions of elements. */

import { harmlessPage } from "./harmless";

addEventListener("message", ({ data }: MessageEvent<string>) => postMessage(harmlessPage(data)));
