import { RotateCcw, Tags, Trash2, X } from "lucide-react";
import type { StoreFile } from "../api/shapes";
import { type MenuAction, RowActions, type RowMenu } from "../shell/Menu";

export type FileAction = "attributes" | "retry" | "cancel" | "remove";

interface FileMenuProps {
  menu: RowMenu<StoreFile>;
  onAct(file: StoreFile, action: FileAction): void;
}

export function FileMenu({ menu, onAct }: FileMenuProps) {
  return (
    <RowActions
      menu={menu}
      label={({ rag }) => `Actions for ${rag.filename}`}
      actions={(file) => actionsFor(file, (action) => onAct(file, action))}
    />
  );
}

function actionsFor({ status }: StoreFile, act: (action: FileAction) => void): MenuAction[] {
  return [
    { label: "Attributes", icon: <Tags size={16} aria-hidden />, run: () => act("attributes") },
    status === "in_progress"
      ? { label: "Cancel", icon: <X size={16} aria-hidden />, run: () => act("cancel") }
      : { label: "Read again", icon: <RotateCcw size={16} aria-hidden />, run: () => act("retry") },
    { label: "Remove from collection", icon: <Trash2 size={16} aria-hidden />, run: () => act("remove") },
  ];
}
