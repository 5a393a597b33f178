import { ApiError, OfflineError } from "../api/http";

export function Loading({ what }: { what: string }) {
  return (
    <p className="doc-wait muted" role="status">
      Loading {what}…
    </p>
  );
}

/** What went wrong, and what can be done about it. */
export function Failed({ error, onRetry }: { error: unknown; onRetry(): void }) {
  const isGone = error instanceof ApiError && error.status === 404;
  return (
    <div className="notice error doc-notice" role="alert">
      <p>{messageOf(error)}</p>
      {!isGone && (
        <button type="button" className="button" onClick={onRetry}>
          Try again
        </button>
      )}
    </div>
  );
}

export function messageOf(error: unknown): string {
  return error instanceof ApiError || error instanceof OfflineError ? error.message : "Something went wrong.";
}

/** A view that cannot show what is looked for says so, and where to find it. */
export function SeeText({ children, onText }: { children: string; onText(): void }) {
  return (
    <div className="notice doc-notice" role="status">
      <p>{children}</p>
      <button type="button" className="button" onClick={onText}>
        Show the text
      </button>
    </div>
  );
}

export const NOT_FOUND = "The quote could not be found in this view.";
export const NOT_LAID_OUT = "This document cannot be shown in its layout.";
