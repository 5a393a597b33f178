import * as Ariakit from "@ariakit/react";
import { MoreHorizontal } from "lucide-react";
import type { ReactNode } from "react";

export interface MenuAction {
  label: string;
  icon?: ReactNode;
  run(): void;
}

/** The button with three dots, and what it offers. */
export function ActionsMenu({ label, actions }: { label: string; actions: MenuAction[] }) {
  return (
    <Ariakit.MenuProvider>
      <Ariakit.MenuButton className="icon-button" aria-label={label}>
        <MoreHorizontal size={18} aria-hidden />
      </Ariakit.MenuButton>
      <Ariakit.Menu className="floating menu" gutter={4} portal>
        {actions.map(({ label: name, icon, run }) => (
          <Ariakit.MenuItem key={name} className="menu-item" onClick={run}>
            {icon}
            {name}
          </Ariakit.MenuItem>
        ))}
      </Ariakit.Menu>
    </Ariakit.MenuProvider>
  );
}
