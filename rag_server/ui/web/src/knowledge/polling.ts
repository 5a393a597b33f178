/** Looks again and again, as long as there is something to see. */

export const EVERY_MS = 1500;

/**
 * Calls `look` while `isBusy`, and once more after; not while the tab is hidden, and never twice at once.
 *
 * `look` returns how many milliseconds the server wants to be left alone for. Returns how to stop.
 */
export function watch(isBusy: () => boolean, look: () => Promise<number>): () => void {
  let wasBusy = false;
  let isLooking = false;
  let notBefore = 0;
  async function tick(): Promise<void> {
    if (document.hidden || isLooking || Date.now() < notBefore) return;
    const busy = isBusy();
    if (!busy && !wasBusy) return;
    wasBusy = busy;
    isLooking = true;
    notBefore = Date.now() + (await look());
    isLooking = false;
  }
  const timer = setInterval(tick, EVERY_MS);
  return () => clearInterval(timer);
}
