import { memo, useRef, useState } from "react";
import type { ConversationHead } from "../conversations/database";
import { conversations } from "../conversations/store";
import { hashOf } from "../router";
import { RowMenuButton } from "./Menu";

export function actionsLabel({ title }: ConversationHead): string {
  return `Actions for ${title}`;
}

interface ItemProps {
  head: ConversationHead;
  isShown: boolean;
  isMenuOpen: boolean;
  onMenu(head: ConversationHead, button: HTMLElement): void;
  onGone?: (() => void) | undefined;
}

export const ConversationItem = memo(function ConversationItem(props: ItemProps) {
  const { head, isShown, isMenuOpen, onMenu, onGone } = props;
  return (
    <li className="side-item" data-shown={isShown || undefined}>
      <a
        href={hashOf({ name: "chat", conversationId: head.id })}
        aria-current={isShown ? "page" : undefined}
        dir="auto"
        onClick={onGone}
      >
        {head.title}
      </a>
      <RowMenuButton row={head} label={actionsLabel(head)} isOpen={isMenuOpen} onOpen={onMenu} />
    </li>
  );
});

export function RenameItem({ head, onDone }: { head: ConversationHead; onDone(): void }) {
  const [title, setTitle] = useState(head.title);
  const isCancelled = useRef(false);
  function finish() {
    if (!isCancelled.current) void conversations.getState().rename(head.id, title);
    onDone();
  }
  return (
    <li className="side-item">
      <input
        className="input"
        aria-label="Name of the conversation"
        dir="auto"
        value={title}
        // biome-ignore lint/a11y/noAutofocus: whoever asked to rename wants to write
        autoFocus
        onFocus={(event) => event.target.select()}
        onChange={(event) => setTitle(event.target.value)}
        onBlur={finish}
        onKeyDown={(event) => {
          if (event.key === "Escape") isCancelled.current = true;
          if (event.key === "Escape" || event.key === "Enter") event.currentTarget.blur();
        }}
      />
    </li>
  );
}
