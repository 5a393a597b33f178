import { beforeEach, expect, test } from "vitest";
import { ApiError, OfflineError } from "./http";
import { type Carrier, partsOf, type Sending, sendFile, UnreadableError } from "./uploads";

test.each([
  [1, 1],
  [10, 3],
  [9, 3],
  [2, 3],
])("the parts of %i bytes, of at most %i, are the file in its order", (size, max) => {
  const parts = partsOf(size, max);
  expect(parts[0]?.start).toBe(0);
  expect(parts.at(-1)?.end).toBe(size);
  parts.forEach(({ start, end }, number) => {
    expect(end - start).toBeGreaterThan(0);
    expect(end - start).toBeLessThanOrEqual(max);
    if (number > 0) expect(start).toBe(parts[number - 1]?.end);
  });
});

let calls: string[];
let content: string;
let progress: number[];
let failures: Map<string, Error>;

/** A server that keeps the parts that it gets. */
const server: Carrier = {
  json: async <T>(path: string, body: unknown) => {
    calls.push(`${path} ${JSON.stringify(body)}`);
    const failure = failures.get(path);
    if (failure) throw failure;
    return (path.endsWith("/complete") ? { file: { id: "file-1" } } : { id: "upload_1" }) as T;
  },
  form: async <T>(path: string, form: FormData, _: AbortSignal, onProgress: (sent: number) => void) => {
    const sent = await ((form.get("data") ?? form.get("file")) as File).text();
    calls.push(`${path} ${sent}`);
    const failure = failures.get(`${path} ${sent}`);
    failures.delete(`${path} ${sent}`);
    if (failure) throw failure;
    content += sent;
    // Forms are a little longer than what is in them.
    onProgress(sent.length + 200);
    return { id: `part_${content.length}` } as T;
  },
};

beforeEach(() => {
  calls = [];
  content = "";
  progress = [];
  failures = new Map();
});

function sending(maxPartBytes: number, patiently: Sending["patiently"] = (attempt) => attempt()): Sending {
  const { signal } = new AbortController();
  return { signal, maxPartBytes, onProgress: (sent) => progress.push(sent), patiently };
}

const PARTS = "/v1/uploads/upload_1/parts";

test("a small file is sent whole", async () => {
  expect(await sendFile(new File(["0123"], "a.txt"), sending(4), server)).toBe("part_4");
  expect(calls).toEqual(["/v1/files 0123"]);
});

test("a large file is announced, sent in parts, and put together in their order", async () => {
  const file = new File(["0123456789"], "big.pdf", { type: "application/pdf" });
  expect(await sendFile(file, sending(4), server)).toBe("file-1");
  expect(content).toBe("0123456789");
  expect(calls[0]).toBe(
    '/v1/uploads {"filename":"big.pdf","purpose":"assistants","bytes":10,"mime_type":"application/pdf"}',
  );
  expect(calls.at(-1)).toBe('/v1/uploads/upload_1/complete {"part_ids":["part_4","part_8","part_10"]}');
});

test("the progress is that of the whole file, and never runs ahead of its parts", async () => {
  await sendFile(new File(["0123456789"], "a"), sending(4), server);
  expect(progress).toEqual([4, 4, 8, 8, 10, 10]);
});

test("only the part that a busy server refused is sent again", async () => {
  failures.set(`${PARTS} 4567`, new ApiError("busy", 503));
  const twice: Sending["patiently"] = (attempt) => attempt().catch(attempt);
  await sendFile(new File(["0123456789"], "a"), sending(4, twice), server);
  expect(content).toBe("0123456789");
  expect(calls.filter((call) => call === `${PARTS} 0123`)).toHaveLength(1);
});

test("an upload that fails is given up on the server too", async () => {
  failures.set(`${PARTS} 4567`, new ApiError("no", 400));
  await expect(sendFile(new File(["0123456789"], "a"), sending(4), server)).rejects.toThrow("no");
  expect(calls.at(-1)).toBe("/v1/uploads/upload_1/cancel {}");
});

test("a file that is gone from the disk is told from a lost connection", async () => {
  failures.set("/v1/files 0123", new OfflineError());
  await expect(sendFile(new File(["0123"], "a"), sending(4), server)).rejects.toBeInstanceOf(OfflineError);

  const gone = new File(["0123"], "a");
  gone.slice = () => ({ arrayBuffer: () => Promise.reject(new Error("NotReadable")) }) as unknown as Blob;
  failures.set("/v1/files 0123", new OfflineError());
  await expect(sendFile(gone, sending(4), server)).rejects.toBeInstanceOf(UnreadableError);
});

test("a type that the server would not take for one is not sent", async () => {
  const odd = new File(["0123456789"], "a");
  Object.defineProperty(odd, "type", { value: "odd" });
  await sendFile(odd, sending(4), server);
  expect(calls[0]).toContain('"mime_type":"application/octet-stream"');
});
