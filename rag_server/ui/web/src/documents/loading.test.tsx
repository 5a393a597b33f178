import { act, createElement } from "react";
import { createRoot } from "react-dom/client";
import { afterEach, beforeEach, expect, it } from "vitest";
import { type Loaded, useLoaded } from "./loading";

type Load = (signal: AbortSignal) => Promise<string>;

let shown: Loaded<string>;
let retry: () => void;
const root = createRoot(document.createElement("div"));

function Probe({ load }: { load: Load }) {
  [shown, retry] = useLoaded(load);
  return null;
}

const show = (load: Load) => act(async () => root.render(createElement(Probe, { load })));

beforeEach(() => {
  Object.assign(globalThis, { IS_REACT_ACT_ENVIRONMENT: true });
});

afterEach(() => act(async () => root.render(null)));

it("breaks off what is not wanted any more, and does not show it", async () => {
  const first = Promise.withResolvers<string>();
  let aborted: AbortSignal | undefined;
  await show((signal) => {
    aborted = signal;
    return first.promise;
  });
  expect(shown).toEqual({ state: "loading" });
  await show(async () => "second");
  expect(aborted?.aborted).toBe(true);
  await act(async () => first.resolve("first"));
  expect(shown).toEqual({ state: "ready", value: "second" });
});

it("tries again after a failure when told to", async () => {
  let attempts = 0;
  const load = async () => {
    attempts += 1;
    if (attempts === 1) throw new Error("no");
    return "yes";
  };
  await show(load);
  expect(shown.state).toBe("failed");
  await act(async () => retry());
  expect(shown).toEqual({ state: "ready", value: "yes" });
});

it("does not show what was loaded for something else while the next is loading", async () => {
  await show(async () => "first");
  expect(shown).toEqual({ state: "ready", value: "first" });
  await show(() => new Promise(() => undefined));
  expect(shown).toEqual({ state: "loading" });
});
