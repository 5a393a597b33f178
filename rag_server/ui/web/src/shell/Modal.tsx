import * as Ariakit from "@ariakit/react";
import { X } from "lucide-react";
import type { ReactNode } from "react";

interface ModalProps {
  title: string;
  onClose(): void;
  children: ReactNode;
}

/** A dialog over the page: it takes the focus, and gives it back; Escape closes it. */
export function Modal({ title, onClose, children }: ModalProps) {
  return (
    <Ariakit.Dialog
      open
      onClose={onClose}
      className="floating dialog"
      backdrop={<div className="backdrop" />}
    >
      <header className="dialog-head">
        <Ariakit.DialogHeading render={(props) => <h2 {...props} />}>{title}</Ariakit.DialogHeading>
        <Ariakit.DialogDismiss className="icon-button" aria-label="Close">
          <X size={18} aria-hidden />
        </Ariakit.DialogDismiss>
      </header>
      {children}
    </Ariakit.Dialog>
  );
}

interface ConfirmProps {
  title: string;
  children: ReactNode;
  action: string;
  onConfirm(): void;
  onClose(): void;
}

/** Asks before something is lost. */
export function Confirm({ title, children, action, onConfirm, onClose }: ConfirmProps) {
  return (
    <Modal title={title} onClose={onClose}>
      <div>{children}</div>
      <div className="dialog-actions">
        <button type="button" className="button" onClick={onClose}>
          Cancel
        </button>
        <button
          type="button"
          className="button danger"
          onClick={() => {
            onConfirm();
            onClose();
          }}
        >
          {action}
        </button>
      </div>
    </Modal>
  );
}
