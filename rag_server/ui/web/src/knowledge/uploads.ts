/** The uploads of this page: they go on whatever view is shown. */

import { attachFile } from "../api/stores";
import { deleteFile, sendFile } from "../api/uploads";
import { realClock } from "./patience";
import { createUploadQueue, isUnderWay } from "./upload-queue";

/** The server's limit for a text among the attributes; a path that is longer is not kept. */
const MAX_PATH_CHARACTERS = 512;

export const uploads = createUploadQueue(
  {
    send: sendFile,
    attach: async (storeId, fileId, path, signal) => {
      const isKept = path !== null && [...path].length <= MAX_PATH_CHARACTERS;
      await attachFile(storeId, fileId, isKept ? { path } : {}, signal);
    },
    discard: deleteFile,
  },
  realClock,
);

/** Tells, each time it is asked, whether files come into a collection or have come since the last time. */
export function uploading(storeId: () => string | undefined): () => boolean {
  let numSeen = 0;
  return () => {
    const items = uploads.getState().items.filter((item) => item.storeId === storeId());
    const numDone = items.filter(({ state }) => state === "done").length;
    const isNew = numDone !== numSeen;
    numSeen = numDone;
    return isNew || items.some(isUnderWay);
  };
}

function askBeforeLeaving(event: BeforeUnloadEvent): void {
  event.preventDefault();
}

// Only while it is needed: a page that listens is not kept for going back.
uploads.subscribe(({ items }, before) => {
  const isBusy = items.some(isUnderWay);
  if (isBusy === before.items.some(isUnderWay)) return;
  if (isBusy) addEventListener("beforeunload", askBeforeLeaving);
  else removeEventListener("beforeunload", askBeforeLeaving);
});
