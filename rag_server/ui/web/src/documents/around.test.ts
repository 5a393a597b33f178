import { afterEach, describe, expect, it, vi } from "vitest";
import type { PassageDetail } from "./api";
import { around, more } from "./around";

const { signal } = new AbortController();

function passage(id: number): PassageDetail {
  const where = { document_id: "d", file_id: "f/1", filename: "f", vector_store_id: "v", characters: 9 };
  return { ...where, id, title: "", text: "", start: 0, end: 0, place: {}, url: "" };
}

/** A file of the passages 1 to 60. */
function serve(status = 200) {
  vi.stubGlobal("fetch", async (path: string) => {
    if (status !== 200) return new Response('{"error":{"message":"no","code":null}}', { status });
    const { pathname, searchParams } = new URL(path, "http://localhost");
    expect(pathname).toBe("/v1/vector_stores/v/files/f%2F1/passages");
    const step = searchParams.get("order") === "asc" ? 1 : -1;
    const limit = Number(searchParams.get("limit"));
    const ids = Array.from(
      { length: 60 },
      (_, index) => Number(searchParams.get("after")) + step * (index + 1),
    );
    const left = ids.filter((id) => id >= 1 && id <= 60);
    return Response.json({ data: left.slice(0, limit).map(passage), has_more: left.length > limit });
  });
}

afterEach(() => vi.unstubAllGlobals());

describe("the passages around one", () => {
  it("are in the order of the text, and say in which directions there are more", async () => {
    serve();
    const list = await around(passage(30), signal);
    expect(list?.passages.map(({ id }) => id)).toEqual(Array.from({ length: 51 }, (_, index) => index + 5));
    expect(list).toMatchObject({ hasEarlier: true, hasLater: true });
    expect(await around(passage(1), signal)).toMatchObject({ hasEarlier: false, hasLater: true });
  });

  it("grow in both directions to the ends of the file", async () => {
    serve();
    const list = await around(passage(30), signal);
    if (list === null) throw new Error("forbidden");
    const later = await more(passage(30), list, "asc", signal);
    const all = await more(passage(30), later, "desc", signal);
    expect(all.passages.map(({ id }) => id)).toEqual(Array.from({ length: 60 }, (_, index) => index + 1));
    expect(all).toMatchObject({ hasEarlier: false, hasLater: false });
  });

  it("are not there for a key that may not read, and any other refusal is an error", async () => {
    serve(403);
    expect(await around(passage(30), signal)).toBeNull();
    serve(500);
    await expect(around(passage(30), signal)).rejects.toThrow("no");
  });
});
