/** Server-sent events of OpenAI's streams, from bytes that may be cut anywhere. */

import { EventSourceParserStream } from "eventsource-parser/stream";
import { OfflineError } from "./http";

export const DONE = "[DONE]";

/**
 * Yields the data of each event until the stream says that it is done.
 *
 * @throws OfflineError The stream ends without saying so.
 */
export async function* eventData(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoded = body.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>);
  const reader = decoded.pipeThrough(new EventSourceParserStream()).getReader();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      if (value.data === DONE) return;
      yield value.data;
    }
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new OfflineError();
  } finally {
    reader.cancel().catch(() => undefined);
  }
  throw new OfflineError("The answer broke off before its end.");
}
