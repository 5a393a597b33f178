import { expect, test } from "vitest";
import { realClock } from "./patience";

test("the clock's sleep ends early with the signal's reason", async () => {
  const stopped = new AbortController();
  const sleep = realClock.sleep(1_000_000, stopped.signal);
  stopped.abort(new Error("enough"));
  await expect(sleep).rejects.toThrow("enough");
  await expect(realClock.sleep(1, stopped.signal)).rejects.toThrow("enough");
});
