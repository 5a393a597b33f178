import { beforeEach, expect, test } from "vitest";
import { ApiError } from "../api/http";
import type { Sending } from "../api/uploads";
import type { Clock } from "./patience";
import { createUploadQueue, summaryOf, type Transport } from "./upload-queue";

const LIMITS = { max_file_bytes: 100, max_part_bytes: 10 };

/** One file on its way, to be ended by the test. */
interface Flight {
  name: string;
  sending: Sending;
  arrive(): void;
  fail(error: Error): void;
}

let flights: Flight[];
let attached: [string, string, string | null][];
let discarded: string[];
let refuseAttach: Error[];
let sleeps: { ms: number; wake(): void }[];

const transport: Transport = {
  send: ({ name }, sending) =>
    sending.patiently(
      () =>
        new Promise((resolve, reject) => {
          sending.signal.addEventListener("abort", () => reject(sending.signal.reason));
          flights.push({ name, sending, arrive: () => resolve(`file-${name}`), fail: reject });
        }),
    ),
  attach: async (storeId, fileId, path) => {
    const refusal = refuseAttach.shift();
    if (refusal) throw refusal;
    attached.push([storeId, fileId, path]);
  },
  discard: async (fileId) => {
    discarded.push(fileId);
  },
};

const clock: Clock = {
  now: () => 5000,
  sleep: (ms, signal) =>
    new Promise((resolve, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason));
      sleeps.push({ ms, wake: resolve });
    }),
};

beforeEach(() => {
  flights = [];
  attached = [];
  discarded = [];
  refuseAttach = [];
  sleeps = [];
});

/** A queue with files of these names, as many bytes long as their names. */
function queueOf(...names: string[]) {
  const queue = createUploadQueue(transport, clock);
  const found = names.map((name) => ({ file: new File([name], name), path: null }));
  queue.getState().add("vs_1", found, LIMITS);
  return queue;
}

type Queue = ReturnType<typeof queueOf>;
const states = (queue: Queue) => queue.getState().items.map(({ name, state }) => `${name} ${state}`);
const flight = (name: string) => flights.findLast((one) => one.name === name) as Flight;
const idOf = (queue: Queue, name: string) =>
  queue.getState().items.find((item) => item.name === name)?.id ?? -1;
/** Lets all that can go on do so. */
const settled = () => new Promise((resolve) => setTimeout(resolve));
const busy = (retryAfterS: number | null) => new ApiError("busy", 503, "overloaded", retryAfterS);

test("three are sent at once, and the next when one is there", async () => {
  const queue = queueOf("a", "b", "c", "d", "e");
  expect(flights.map(({ name }) => name)).toEqual(["a", "b", "c"]);
  flight("b").arrive();
  await settled();
  expect(states(queue)).toEqual(["a sending", "b done", "c sending", "d sending", "e waiting"]);
  expect(attached).toEqual([["vs_1", "file-b", null]]);
});

test("one that fails says why, and stops none of the others", async () => {
  const queue = queueOf("a", "b", "c", "d");
  flight("a").fail(new ApiError("no such format", 400));
  flight("b").arrive();
  await settled();
  expect(states(queue)).toEqual(["a failed", "b done", "c sending", "d sending"]);
  expect(queue.getState().items[0]?.reason).toBe("no such format");
});

test("a failed one can be tried again", async () => {
  const queue = queueOf("a");
  flight("a").fail(new Error("broken off"));
  await settled();
  queue.getState().retry(idOf(queue, "a"));
  expect(queue.getState().items[0]).toMatchObject({ state: "sending", reason: null });
  flight("a").arrive();
  await settled();
  expect(states(queue)).toEqual(["a done"]);
});

test("a file that is stored already is not sent again", async () => {
  const queue = queueOf("a");
  refuseAttach = [new ApiError("the collection is gone", 404)];
  flight("a").arrive();
  await settled();
  expect(states(queue)).toEqual(["a failed"]);
  queue.getState().retryFailed("vs_1");
  await settled();
  expect(flights).toHaveLength(1);
  expect(attached).toEqual([["vs_1", "file-a", null]]);
});

test("a cancelled one is stopped and gone, and the next takes its place", async () => {
  const queue = queueOf("a", "b", "c", "d");
  queue.getState().remove(idOf(queue, "a"));
  await settled();
  expect(flight("a").sending.signal.aborted).toBe(true);
  expect(states(queue)).toEqual(["b sending", "c sending", "d sending"]);
});

test("one that waits is cancelled without ever being sent", async () => {
  const queue = queueOf("a", "b", "c", "d", "e");
  queue.getState().remove(idOf(queue, "d"));
  flight("a").arrive();
  await settled();
  expect(flights.map(({ name }) => name)).toEqual(["a", "b", "c", "e"]);
});

test("all of one collection are cancelled, those of others go on", async () => {
  const queue = queueOf("a", "b", "c", "d");
  queue.getState().add("vs_2", [{ file: new File(["z"], "z"), path: "x/z" }], LIMITS);
  queue.getState().removeAll("vs_1");
  await settled();
  expect(states(queue)).toEqual(["z sending"]);
  flight("z").arrive();
  await settled();
  expect(attached).toEqual([["vs_2", "file-z", "x/z"]]);
  expect(flights.map(({ name }) => name)).not.toContain("d");
});

test("a stored file that is given up before it came into the collection is removed", async () => {
  const queue = queueOf("a");
  refuseAttach = [new ApiError("no", 403)];
  flight("a").arrive();
  await settled();
  queue.getState().remove(idOf(queue, "a"));
  expect(discarded).toEqual(["file-a"]);
});

test("a busy server is waited for as long as it says, and then it goes on by itself", async () => {
  const queue = queueOf("a");
  flight("a").fail(busy(7));
  await settled();
  expect(queue.getState().items[0]).toMatchObject({ state: "paused", resumesAt: 12_000 });
  expect(sleeps.map(({ ms }) => ms)).toEqual([7000]);
  sleeps[0]?.wake();
  await settled();
  expect(queue.getState().items[0]).toMatchObject({ state: "sending", resumesAt: null });
  flight("a").arrive();
  await settled();
  expect(states(queue)).toEqual(["a done"]);
});

test("a pause can be cancelled", async () => {
  const queue = queueOf("a");
  flight("a").fail(busy(7));
  await settled();
  queue.getState().remove(idOf(queue, "a"));
  await settled();
  expect(states(queue)).toEqual([]);
  expect(flights).toHaveLength(1);
});

test.each([
  ["a refusal without a time", busy(null)],
  ["the day's quota", new ApiError("used up", 429, "insufficient_quota", 3600)],
])("%s is not waited for", async (_, error) => {
  const queue = queueOf("a");
  flight("a").fail(error);
  await settled();
  expect(states(queue)).toEqual(["a failed"]);
});

test("a file that is too large is refused before it is sent, with the limit", () => {
  const queue = queueOf("a".repeat(101), "b");
  expect(queue.getState().items[0]).toMatchObject({
    state: "refused",
    reason: "Too large: it has 101 B, this server takes 100 B.",
  });
  expect(flights.map(({ name }) => name)).toEqual(["b"]);
});

test("progress adds up over all files", async () => {
  const queue = queueOf("aaaa", "bbbbbb", "c".repeat(101));
  flight("aaaa").arrive();
  flight("bbbbbb").sending.onProgress(3);
  await settled();
  expect(summaryOf(queue.getState().items)).toEqual({
    total: 3,
    underWay: 1,
    done: 1,
    failed: 0,
    refused: 1,
    sentBytes: 7,
    totalBytes: 10,
  });
});

test("what is sent around a file does not count as progress", () => {
  const queue = queueOf("aaaa");
  flight("aaaa").sending.onProgress(400);
  expect(queue.getState().items[0]?.sent).toBe(4);
});
