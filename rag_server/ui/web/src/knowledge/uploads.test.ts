import { afterEach, expect, test, vi } from "vitest";
import type { UploadItem, UploadState } from "./upload-queue";
import { uploading, uploads } from "./uploads";

const LIMITS = { max_file_bytes: 1000, max_part_bytes: 1000 };

afterEach(() => vi.unstubAllGlobals());

/** Whether the page asks before it is left. */
function asksBeforeLeaving(): boolean {
  return !dispatchEvent(new Event("beforeunload", { cancelable: true }));
}

test("leaving the page is asked about as long as something is uploaded, and not otherwise", async () => {
  vi.stubGlobal(
    "XMLHttpRequest",
    class {
      upload = {};
      onabort = () => undefined;
      open() {}
      setRequestHeader() {}
      send() {}
      abort() {
        this.onabort();
      }
    },
  );
  expect(asksBeforeLeaving()).toBe(false);
  uploads.getState().add("vs_1", [{ file: new File(["x"], "a.txt"), path: null }], LIMITS);
  expect(asksBeforeLeaving()).toBe(true);
  uploads.getState().removeAll("vs_1");
  expect(asksBeforeLeaving()).toBe(false);
});

test("a file that came between two looks is told of once", () => {
  const come = (...states: UploadState[]) =>
    uploads.setState({ items: states.map((state) => ({ storeId: "vs_1", state }) as UploadItem) });
  const isUploading = uploading(() => "vs_1");
  expect(isUploading()).toBe(false);
  come("done");
  expect([isUploading(), isUploading()]).toEqual([true, false]);
  come("done", "sending");
  expect([isUploading(), isUploading()]).toEqual([true, true]);
  come("done", "done");
  expect([isUploading(), isUploading()]).toEqual([true, false]);
  expect(uploading(() => "vs_2")()).toBe(false);
});
