import { expect, test } from "vitest";
import { pieceOf } from "./chat";
import { ApiError, OfflineError } from "./http";
import { eventData } from "./sse";

const STREAM = [
  ": a comment that keeps the connection\n\n",
  'data: {"choices":[{"delta":{"content":"Grüße "}}]}\n\n',
  'data: {"choices":[{"delta":{"content":"🙂 سلام"}}]}\r\n\r\n',
  'event: other\ndata: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n',
  "data: [DONE]\n\n",
].join("");
const BYTES = new TextEncoder().encode(STREAM);
const DATA = [
  '{"choices":[{"delta":{"content":"Grüße "}}]}',
  '{"choices":[{"delta":{"content":"🙂 سلام"}}]}',
  '{"choices":[{"delta":{},"finish_reason":"stop"}]}',
];

function streamOf(parts: Uint8Array[], error?: Error): ReadableStream<Uint8Array> {
  const left = [...parts];
  return new ReadableStream({
    pull(controller) {
      const part = left.shift();
      if (part !== undefined) controller.enqueue(part);
      else if (error) controller.error(error);
      else controller.close();
    },
  });
}

async function collected(body: ReadableStream<Uint8Array>): Promise<string[]> {
  const found: string[] = [];
  for await (const data of eventData(body)) found.push(data);
  return found;
}

test("a stream that is cut at any byte gives the same events", async () => {
  for (let cut = 0; cut <= BYTES.length; cut++) {
    expect(await collected(streamOf([BYTES.slice(0, cut), BYTES.slice(cut)]))).toEqual(DATA);
  }
});

test("a stream of single bytes gives the same events", async () => {
  expect(await collected(streamOf([...BYTES].map((byte) => Uint8Array.of(byte))))).toEqual(DATA);
});

test("what comes after the end is not read", async () => {
  const more = new TextEncoder().encode('data: {"late":true}\n\n');
  expect(await collected(streamOf([BYTES, more]))).toEqual(DATA);
});

test("a stream that ends before its end gives what came, and then says that it broke off", async () => {
  const end = STREAM.indexOf("event: other");
  const found: string[] = [];
  const broken = async () => {
    for await (const data of eventData(streamOf([BYTES.slice(0, end)]))) found.push(data);
  };
  await expect(broken()).rejects.toThrow(OfflineError);
  // Its bytes are more than its characters, so the cut lies in the second event.
  expect(found).toEqual(DATA.slice(0, 1));
});

test("a connection that is lost is told as such", async () => {
  await expect(collected(streamOf([BYTES.slice(0, 60)], new TypeError("network error")))).rejects.toThrow(
    OfflineError,
  );
});

test("whoever stops is told that they stopped", async () => {
  const stopped = new DOMException("stopped", "AbortError");
  await expect(collected(streamOf([BYTES.slice(0, 60)], stopped))).rejects.toBe(stopped);
});

test("an event holds text, sources, or the reason of the end", () => {
  expect(pieceOf(DATA[0] ?? "")).toEqual({ text: "Grüße ", rag: null, finishReason: null });
  expect(pieceOf(DATA[2] ?? "")).toEqual({ text: "", rag: null, finishReason: "stop" });
  expect(pieceOf('{"choices":[],"rag":{"num_dropped":2}}')).toEqual({
    text: "",
    rag: { num_dropped: 2 },
    finishReason: null,
  });
});

test("an error in mid-stream is thrown with its message", () => {
  expect(() => pieceOf('{"error":{"message":"the engine went away","code":"engine_unavailable"}}')).toThrow(
    expect.objectContaining({ message: "the engine went away", code: "engine_unavailable" }),
  );
  expect(() => pieceOf("<html>")).toThrow(ApiError);
});
