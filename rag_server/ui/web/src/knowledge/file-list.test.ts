import { beforeEach, expect, test } from "vitest";
import { ApiError } from "../api/http";
import type { FileState, List, StoreFile, VectorStore } from "../api/shapes";
import type { FilePage } from "../api/stores";
import { createFileList, type FilesApi, isChanging, merged, percentRead } from "./file-list";

const PAGE = 100;

function file(number: number, status: FileState = "completed", bytesRead = 0): StoreFile {
  return {
    id: `file-${number}`,
    created_at: number,
    vector_store_id: "vs_1",
    status,
    usage_bytes: 200,
    attributes: {},
    last_error: null,
    rag: { filename: `${number}.txt`, bytes_read: bytesRead, is_queued: false },
  };
}

/** What a server has, newest first, and what it was asked. */
let stored: StoreFile[];
let asked: FilePage[];
let refusal: Error | null;
let gate: Promise<void>;

const api: FilesApi = {
  getStore: async () => {
    if (refusal) throw refusal;
    const count = (state: FileState) => stored.filter(({ status }) => status === state).length;
    return { file_counts: { in_progress: count("in_progress"), total: stored.length } } as VectorStore;
  },
  listFiles: async (_, page) => {
    asked.push(page);
    const start = page.after === undefined ? 0 : stored.findIndex(({ id }) => id === page.after) + 1;
    const fitting = stored.slice(start).filter(({ status }) => !page.filter || status === page.filter);
    const data = structuredClone(fitting.slice(0, PAGE));
    await gate;
    return { data, has_more: fitting.length > PAGE, last_id: data.at(-1)?.id ?? null };
  },
};

beforeEach(() => {
  stored = [];
  asked = [];
  refusal = null;
  gate = Promise.resolve();
});

/** Files of these numbers, from the newest. */
const range = (from: number, to: number) => Array.from({ length: from - to + 1 }, (_, n) => file(from - n));
const numbers = (files: readonly StoreFile[] | null) => files?.map(({ created_at }) => created_at);
const pageOf = (files: StoreFile[], has_more = false): List<StoreFile> => ({
  data: files,
  has_more,
  last_id: null,
});

test("files come a page at a time, until there are no more", async () => {
  stored = range(250, 1);
  const list = createFileList("vs_1", api);
  await list.getState().refresh();
  expect(list.getState().files).toHaveLength(100);
  await list.getState().more();
  await list.getState().more();
  expect(numbers(list.getState().files)).toEqual(numbers(stored));
  expect(list.getState().hasMore).toBe(false);
});

test("looking again keeps the order, adds what is new on top, and drops what is gone", async () => {
  stored = range(150, 1);
  const list = createFileList("vs_1", api);
  await list.getState().refresh();
  await list.getState().more();
  stored = [file(152), file(151), ...range(150, 1).filter(({ created_at }) => created_at !== 140)];
  await list.getState().refresh();
  expect(numbers(list.getState().files)).toEqual(numbers(stored));
});

test("files that are as they were stay the same objects, others are new", async () => {
  stored = [file(2, "in_progress", 10), file(1)];
  const list = createFileList("vs_1", api);
  await list.getState().refresh();
  const before = list.getState().files ?? [];
  stored = [file(2, "in_progress", 50), file(1)];
  await list.getState().refresh();
  const after = list.getState().files ?? [];
  expect(after[1]).toBe(before[1]);
  expect(after[0]?.rag.bytes_read).toBe(50);
});

test("the oldest file in progress is looked at, wherever it is", async () => {
  stored = range(300, 1);
  stored[270] = file(30, "in_progress");
  const list = createFileList("vs_1", api);
  await list.getState().refresh();
  await list.getState().more();
  await list.getState().more();
  asked = [];
  stored[270] = file(30, "failed");
  await list.getState().refresh();
  expect(asked).toHaveLength(2);
  expect(list.getState().files?.[270]?.status).toBe("failed");
  expect(numbers(list.getState().files)).toEqual(numbers(stored));
});

test("where a page does not reach what was known, that is forgotten", () => {
  const known = { files: range(100, 1), hasMore: false };
  const after = merged(known, pageOf(range(300, 201), true), null);
  expect(numbers(after.files)).toEqual(numbers(range(300, 201)));
  expect(after.hasMore).toBe(true);
});

test("a page after a file that is gone changes nothing", () => {
  const known = { files: range(3, 1), hasMore: true };
  expect(merged(known, pageOf([file(9)]), "file-77")).toBe(known);
});

test("an empty list stays known as empty", () => {
  expect(merged({ files: range(3, 1), hasMore: true }, pageOf([]), null)).toEqual({
    files: [],
    hasMore: false,
  });
});

test("only files of the chosen state are asked for and shown", async () => {
  stored = [file(3, "failed"), file(2), file(1, "failed")];
  const list = createFileList("vs_1", api);
  await list.getState().refresh();
  await list.getState().show("failed");
  expect(numbers(list.getState().files)).toEqual([3, 1]);
  await list.getState().show(null);
  expect(numbers(list.getState().files)).toEqual([3, 2, 1]);
});

test("an answer that comes after another state was chosen is not shown", async () => {
  stored = [file(2, "failed"), file(1)];
  let open = () => {};
  gate = new Promise((resolve) => (open = resolve));
  const list = createFileList("vs_1", api);
  const shown: (number[] | undefined)[] = [];
  list.subscribe(({ files }) => shown.push(numbers(files)));
  const first = list.getState().refresh();
  await expect.poll(() => asked).toHaveLength(1);
  const second = list.getState().show("failed");
  open();
  await Promise.all([first, second]);
  expect(shown).not.toContainEqual([2, 1]);
  expect(numbers(list.getState().files)).toEqual([2]);
});

test("a file that was removed does not come back with an answer that was on its way", async () => {
  stored = range(2, 1);
  const list = createFileList("vs_1", api);
  await list.getState().refresh();
  let open = () => {};
  gate = new Promise((resolve) => (open = resolve));
  const looking = list.getState().refresh();
  const dropping = list.getState().drop("file-1");
  open();
  await Promise.all([looking, dropping]);
  expect(numbers(list.getState().files)).toEqual([2]);
});

test("a refusal is kept with the files that are known, says how long to wait, and goes with the next answer", async () => {
  stored = range(2, 1);
  const list = createFileList("vs_1", api);
  await list.getState().refresh();
  refusal = new ApiError("slow down", 429, "rate_limited", 4);
  expect(await list.getState().refresh()).toBe(4000);
  expect(list.getState().error?.message).toBe("slow down");
  expect(list.getState().files).toHaveLength(2);
  refusal = null;
  expect(await list.getState().refresh()).toBe(0);
  expect(list.getState().error).toBeNull();
});

test("looking again helps while files are read, and not when the collection is gone", async () => {
  stored = [file(1, "in_progress")];
  const list = createFileList("vs_1", api);
  await list.getState().refresh();
  expect(isChanging(list.getState())).toBe(true);
  refusal = new ApiError("gone", 404);
  await list.getState().refresh();
  expect(isChanging(list.getState())).toBe(false);
  refusal = null;
  stored = [file(1)];
  await list.getState().refresh();
  expect(isChanging(list.getState())).toBe(false);
});

test("how much is read is said in whole percent, at most 100", () => {
  expect(percentRead(file(1, "in_progress", 99))).toBe(49);
  expect(percentRead(file(1, "in_progress", 900))).toBe(100);
  expect(percentRead({ ...file(1), usage_bytes: 0 })).toBeNull();
});
