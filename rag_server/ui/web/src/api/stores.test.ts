import { afterEach, expect, test, vi } from "vitest";
import type { StoreFile } from "./shapes";
import { listFiles, listStores, readAgain } from "./stores";

afterEach(() => vi.unstubAllGlobals());

/** Answers requests from the list, one after the other; returns what was asked. */
function answering(...answers: unknown[]) {
  const asked: { path: string; body: unknown }[] = [];
  vi.stubGlobal("fetch", async (path: string, init: RequestInit) => {
    asked.push({ path, body: init.body === undefined ? null : JSON.parse(String(init.body)) });
    return Response.json(answers.shift());
  });
  return asked;
}

const FILE: StoreFile = {
  id: "file-1",
  created_at: 1,
  vector_store_id: "vs_1",
  status: "failed",
  usage_bytes: 1,
  attributes: { path: "a/b.pdf", year: 2024 },
  last_error: null,
  rag: { filename: "b.pdf", bytes_read: 0, is_queued: false },
};

test("all collections are listed, however many pages there are", async () => {
  const asked = answering(
    { data: [{ id: "vs_2" }], has_more: true, last_id: "vs_2" },
    { data: [{ id: "vs_1" }], has_more: false, last_id: "vs_1" },
  );
  expect((await listStores()).map(({ id }) => id)).toEqual(["vs_2", "vs_1"]);
  expect(asked.map(({ path }) => path)).toEqual([
    "/v1/vector_stores?limit=100",
    "/v1/vector_stores?limit=100&after=vs_2",
  ]);
});

test("ids from addresses cannot lead elsewhere", async () => {
  const asked = answering({ data: [] });
  await listFiles("../files?x=", { after: "a&b", filter: "failed" });
  expect(asked[0]?.path).toBe(
    "/v1/vector_stores/..%2Ffiles%3Fx%3D/files?limit=100&after=a%26b&filter=failed",
  );
});

test("a file that is read again keeps its attributes, its cutting, and who may read it", async () => {
  const asked = answering(FILE, FILE);
  await readAgain(FILE);
  expect(asked[0]?.body).toEqual({ file_id: "file-1", attributes: FILE.attributes });

  const cut = { type: "static", static: { max_chunk_size_tokens: 200, chunk_overlap_tokens: 0 } };
  await readAgain({
    ...FILE,
    chunking_strategy: cut,
    rag: { ...FILE.rag, principals: ["ada"] },
  } as StoreFile);
  expect(asked[1]?.body).toEqual({
    file_id: "file-1",
    attributes: FILE.attributes,
    chunking_strategy: cut,
    rag: { principals: ["ada"] },
  });
});
