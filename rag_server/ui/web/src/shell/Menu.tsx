import * as Ariakit from "@ariakit/react";
import { MoreHorizontal } from "lucide-react";
import { type ReactNode, useCallback, useState } from "react";

export interface MenuAction {
  label: string;
  icon: ReactNode;
  run(): void;
}

/** The button with three dots, and what it offers. */
export function ActionsMenu({ label, actions }: { label: string; actions: MenuAction[] }) {
  return (
    <Ariakit.MenuProvider placement="bottom-end">
      <Ariakit.MenuButton className="icon-button" aria-label={label}>
        <MoreHorizontal size={18} aria-hidden />
      </Ariakit.MenuButton>
      <Ariakit.Menu className="floating menu" gutter={4} fixed aria-label={label}>
        <MenuItems actions={actions} />
      </Ariakit.Menu>
    </Ariakit.MenuProvider>
  );
}

function MenuItems({ actions }: { actions: MenuAction[] }) {
  return actions.map(({ label, icon, run }) => (
    <Ariakit.MenuItem key={label} className="menu-item" onClick={run}>
      {icon}
      {label}
    </Ariakit.MenuItem>
  ));
}

/** One menu for all rows of a list: with one for each, a list of thousands would be slow. */
export interface RowMenu<T> {
  row: T | null;
  isOpen: boolean;
  store: Ariakit.MenuStore;
  open(row: T, button: HTMLElement): void;
}

export function useRowMenu<T>(): RowMenu<T> {
  const [row, setRow] = useState<T | null>(null);
  const store = Ariakit.useMenuStore({ placement: "bottom-end" });
  const isOpen = Ariakit.useStoreState(store, "open");
  const open = useCallback(
    (opened: T, button: HTMLElement) => {
      setRow(opened);
      store.setAnchorElement(button);
      store.setDisclosureElement(button);
      store.setAutoFocusOnShow(true);
      store.setInitialFocus("first");
      store.show();
    },
    [store],
  );
  return { row, isOpen, store, open };
}

interface RowActionsProps<T> {
  menu: RowMenu<T>;
  label(row: T): string;
  actions(row: T): MenuAction[];
}

export function RowActions<T>({ menu: { row, store }, label, actions }: RowActionsProps<T>) {
  return (
    <Ariakit.Menu
      store={store}
      className="floating menu"
      gutter={4}
      fixed
      aria-label={row === null ? "Actions" : label(row)}
    >
      {row !== null && <MenuItems actions={actions(row)} />}
    </Ariakit.Menu>
  );
}

interface RowMenuButtonProps<T> {
  row: T;
  label: string;
  isOpen: boolean;
  onOpen(row: T, button: HTMLElement): void;
}

export function RowMenuButton<T>({ row, label, isOpen, onOpen }: RowMenuButtonProps<T>) {
  return (
    <button
      type="button"
      className="icon-button"
      aria-label={label}
      aria-haspopup="menu"
      aria-expanded={isOpen}
      onClick={(event) => onOpen(row, event.currentTarget)}
    >
      <MoreHorizontal size={18} aria-hidden />
    </button>
  );
}
