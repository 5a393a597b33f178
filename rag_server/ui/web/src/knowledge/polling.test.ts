import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { EVERY_MS, watch } from "./polling";

let isBusy: boolean;
let isHidden: boolean;
let looks: number;
let stop: () => void = () => undefined;

beforeEach(() => {
  vi.useFakeTimers();
  isBusy = true;
  isHidden = false;
  looks = 0;
  vi.spyOn(document, "hidden", "get").mockImplementation(() => isHidden);
});

afterEach(() => {
  stop();
  vi.restoreAllMocks();
  vi.useRealTimers();
});

function start(look: () => Promise<number> = async () => 0) {
  stop = watch(
    () => isBusy,
    () => {
      looks += 1;
      return look();
    },
  );
}
const pass = (ticks: number) => vi.advanceTimersByTimeAsync(ticks * EVERY_MS);

test("looks while busy, once more after, and then no more", async () => {
  start();
  await pass(3);
  expect(looks).toBe(3);
  isBusy = false;
  await pass(5);
  expect(looks).toBe(4);
  isBusy = true;
  await pass(1);
  expect(looks).toBe(5);
});

test("does not look while the tab is hidden", async () => {
  isHidden = true;
  start();
  await pass(3);
  expect(looks).toBe(0);
  isHidden = false;
  await pass(1);
  expect(looks).toBe(1);
});

test("never looks twice at once", async () => {
  let end: (ms: number) => void = () => undefined;
  start(() => new Promise((resolve) => (end = resolve)));
  await pass(5);
  expect(looks).toBe(1);
  end(0);
  await pass(1);
  expect(looks).toBe(2);
});

test("leaves the server alone for as long as it wants", async () => {
  start(async () => 10 * EVERY_MS);
  await pass(10);
  expect(looks).toBe(1);
  await pass(2);
  expect(looks).toBe(2);
});

test("ends when it is stopped", async () => {
  start();
  stop();
  await pass(3);
  expect(looks).toBe(0);
});
