import * as Ariakit from "@ariakit/react";
import { useEffect, useRef, useSyncExternalStore } from "react";
import { useStore } from "zustand";
import { DocumentView } from "./DocumentView";
import { documentPanel, type Shown } from "./panel";

const PHONE = "(max-width: 48rem)";

/** The open document: beside the conversation, or on a phone over it. */
export function DocumentPanel() {
  const shown = useStore(documentPanel, (state) => state.shown);
  return shown === null ? null : <OpenPanel shown={shown} />;
}

function OpenPanel({ shown: { passageId, quote } }: { shown: Shown }) {
  const { close, open } = documentPanel.getState();
  const isPhone = useMedia(PHONE);
  const panel = useRef<HTMLElement>(null);
  const opener = useOpener(panel, passageId);
  return (
    <Ariakit.Dialog
      key={String(isPhone)}
      ref={panel as never}
      open
      onClose={close}
      className="doc-panel"
      aria-label="Document"
      modal={isPhone}
      portal={isPhone}
      backdrop={false}
      hideOnInteractOutside={false}
      initialFocus={panel as never}
      finalFocus={opener}
      role={isPhone ? "dialog" : "complementary"}
    >
      <DocumentView
        passageId={passageId}
        quote={quote}
        onClose={close}
        onMove={(id) => open({ passageId: id, quote: null })}
      />
    </Ariakit.Dialog>
  );
}

/** What outside of the panel had the focus when the passage was opened: there it goes back to. */
function useOpener(panel: { current: HTMLElement | null }, passageId: number) {
  const opener = useRef<HTMLElement | null>(null);
  const lastId = useRef<number | null>(null);
  if (lastId.current !== passageId) {
    lastId.current = passageId;
    const { activeElement } = document;
    if (activeElement instanceof HTMLElement && !panel.current?.contains(activeElement))
      opener.current = activeElement;
  }
  useEffect(() => () => opener.current?.focus(), []);
  return opener as { current: HTMLElement };
}

function useMedia(query: string): boolean {
  return useSyncExternalStore(
    (changed) => {
      const media = matchMedia(query);
      media.addEventListener("change", changed);
      return () => media.removeEventListener("change", changed);
    },
    () => matchMedia(query).matches,
  );
}
