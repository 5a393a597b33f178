/** Shows what changes fast no more often than the page can draw it. */

const SHOW_EVERY_MS = 50;
/** The page has the rest of the time for whoever uses it. */
const SHARE_OF_TIME = 4;
const LONGEST_TURN_MS = 30;

export interface Paced<T> {
  /** Takes the latest value; returns once the page may go on, which it must be given time for. */
  offer(value: T): Promise<void>;
  /** Shows what was not shown yet. */
  flush(): void;
}

export function paced<T>(show: (value: T) => void): Paced<T> {
  let waiting: { value: T } | null = null;
  let timer: number | undefined;
  let nextAt = 0;
  let turnBeganAt = performance.now();

  function draw() {
    window.clearTimeout(timer);
    timer = undefined;
    if (waiting === null) return;
    const { value } = waiting;
    const began = performance.now();
    waiting = null;
    show(value);
    // A timer's turn comes after the page was drawn.
    window.setTimeout(() => {
      nextAt = began + Math.max(SHOW_EVERY_MS, SHARE_OF_TIME * (performance.now() - began));
    }, 0);
    nextAt = Number.POSITIVE_INFINITY;
  }

  function schedule() {
    if (timer !== undefined) return;
    const wait = Number.isFinite(nextAt) ? Math.max(0, nextAt - performance.now()) : SHOW_EVERY_MS;
    timer = window.setTimeout(() => {
      timer = undefined;
      if (Number.isFinite(nextAt) && performance.now() >= nextAt) draw();
      else schedule();
    }, wait);
  }

  return {
    offer: async (value) => {
      waiting = { value };
      schedule();
      if (performance.now() - turnBeganAt < LONGEST_TURN_MS) return;
      await new Promise((resume) => window.setTimeout(resume, 0));
      turnBeganAt = performance.now();
    },
    flush: draw,
  };
}
