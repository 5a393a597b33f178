import type { Root } from "hast";

/** Pages of the largest size that is shown take a small part of it. */
const MAX_MS = 5_000;

/** @throws Error The page is tangled, or takes too long to be read. */
export async function readPage(markup: string, signal: AbortSignal): Promise<Root> {
  const worker = new Worker(new URL("./harmless.worker.ts", import.meta.url), { type: "module" });
  const stop = AbortSignal.any([signal, AbortSignal.timeout(MAX_MS)]);
  try {
    return await new Promise<Root>((resolve, reject) => {
      worker.addEventListener("message", ({ data }: MessageEvent<Root>) => resolve(data));
      worker.addEventListener("error", () => reject(new Error("The page cannot be read.")));
      stop.addEventListener("abort", () => reject(stop.reason));
      worker.postMessage(markup);
    });
  } finally {
    worker.terminate();
  }
}
