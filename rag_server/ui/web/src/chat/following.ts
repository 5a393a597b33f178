/** Keeps a scrolled region at its end while what is in it grows, unless the reader has gone up. */

import { type RefObject, useEffect, useRef, useState } from "react";

const NEAR_PX = 80;

interface Following<T> {
  region: RefObject<T | null>;
  isAtEnd: boolean;
  toEnd(): void;
}

/** `numTurns` has the region go to its end when a turn is added; what grows is followed while `isGrowing`. */
export function useFollowing<T extends HTMLElement>(numTurns: number, isGrowing: boolean): Following<T> {
  const region = useRef<T>(null);
  const follows = useRef(true);
  const [isAtEnd, setAtEnd] = useState(true);
  function toEnd() {
    const element = region.current;
    if (element === null) return;
    follows.current = true;
    element.scrollTop = element.scrollHeight;
  }
  // biome-ignore lint/correctness/useExhaustiveDependencies: a turn more is what it waits for
  useEffect(toEnd, [numTurns]);
  useEffect(() => {
    const element = region.current;
    if (element === null) return undefined;
    let height = element.scrollHeight;
    function onScroll() {
      if (element === null) return;
      const isNear = element.scrollHeight - element.scrollTop - element.clientHeight < NEAR_PX;
      // What has grown moved the end away; the reader did not.
      if (isNear || element.scrollHeight === height) follows.current = isNear;
      height = element.scrollHeight;
      setAtEnd(isNear);
    }
    const grown = new ResizeObserver(() => {
      if (isGrowing && follows.current) element.scrollTop = element.scrollHeight;
      height = element.scrollHeight;
    });
    element.addEventListener("scroll", onScroll, { passive: true });
    for (const child of element.children) grown.observe(child);
    return () => {
      element.removeEventListener("scroll", onScroll);
      grown.disconnect();
    };
  }, [isGrowing]);
  return { region, isAtEnd, toEnd };
}
