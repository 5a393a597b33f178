import * as Ariakit from "@ariakit/react";
import { RotateCcw, Tags, Trash2, X } from "lucide-react";
import { useCallback, useState } from "react";
import type { StoreFile } from "../api/shapes";

export type FileAction = "attributes" | "retry" | "cancel" | "remove";

type Menu = ReturnType<typeof useFileMenu>;

/** One menu for all rows: with one for each, a list of thousands would be slow. */
export function useFileMenu() {
  const [file, setFile] = useState<StoreFile | null>(null);
  const store = Ariakit.useMenuStore({ placement: "bottom-end" });
  const isOpen = Ariakit.useStoreState(store, "open");
  const open = useCallback(
    (opened: StoreFile, button: HTMLElement) => {
      setFile(opened);
      store.setAnchorElement(button);
      store.setDisclosureElement(button);
      store.setAutoFocusOnShow(true);
      store.setInitialFocus("first");
      store.show();
    },
    [store],
  );
  return { file, isOpen, store, open };
}

export function FileMenu({ menu, onAct }: { menu: Menu; onAct(file: StoreFile, action: FileAction): void }) {
  const { file, store } = menu;
  return (
    <Ariakit.Menu
      store={store}
      className="floating menu"
      gutter={4}
      fixed
      aria-label={`Actions for ${file?.rag.filename ?? "the file"}`}
    >
      {file !== null &&
        actionsFor(file).map(({ action, label, icon }) => (
          <Ariakit.MenuItem key={action} className="menu-item" onClick={() => onAct(file, action)}>
            {icon}
            {label}
          </Ariakit.MenuItem>
        ))}
    </Ariakit.Menu>
  );
}

function actionsFor({ status }: StoreFile): { action: FileAction; label: string; icon: React.ReactNode }[] {
  return [
    { action: "attributes", label: "Attributes", icon: <Tags size={16} aria-hidden /> },
    status === "in_progress"
      ? { action: "cancel", label: "Cancel", icon: <X size={16} aria-hidden /> }
      : { action: "retry", label: "Read again", icon: <RotateCcw size={16} aria-hidden /> },
    { action: "remove", label: "Remove from collection", icon: <Trash2 size={16} aria-hidden /> },
  ];
}
