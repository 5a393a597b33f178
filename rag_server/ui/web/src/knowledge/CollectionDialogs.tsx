import { type FormEvent, useId, useState } from "react";
import type { VectorStore } from "../api/shapes";
import { createStore, deleteStore, renameStore } from "../api/stores";
import { go } from "../router";
import { server } from "../server-state";
import { Modal } from "../shell/Modal";
import { counted, messageOf } from "../text";
import { storeName } from "./naming";
import { uploads } from "./uploads";

const MAX_NAME_CHARACTERS = 256;

interface DialogProps {
  store: VectorStore;
  onClose(): void;
  onDone?(): void;
}

export function NewDialog({ onClose }: { onClose(): void }) {
  async function make(name: string) {
    const store = await createStore(name);
    await server.getState().refresh();
    go({ name: "collection", storeId: store.id });
  }
  return <NameDialog title="New collection" action="Create" name="" save={make} onClose={onClose} />;
}

export function RenameDialog({ store, onClose, onDone }: DialogProps) {
  async function rename(name: string) {
    await renameStore(store.id, name);
    onDone?.();
    await server.getState().refresh();
  }
  return (
    <NameDialog title="Rename collection" action="Rename" name={store.name} save={rename} onClose={onClose} />
  );
}

interface NameProps {
  title: string;
  action: string;
  name: string;
  save(name: string): Promise<void>;
  onClose(): void;
}

/** Asks for a name; what the server has against it is said here. */
function NameDialog({ title, action, name: before, save, onClose }: NameProps) {
  const [name, setName] = useState(before);
  const { isBusy, problem, run, refuse } = useAction(onClose);
  const problemId = useId();
  function submit(event: FormEvent) {
    event.preventDefault();
    if (name.trim() === "") refuse("Give it a name.");
    else void run(() => save(name.trim()));
  }
  return (
    <Modal title={title} onClose={onClose}>
      <form className="kn-form" onSubmit={submit}>
        <label className="field">
          <span>Name</span>
          <input
            className="input"
            dir="auto"
            data-autofocus="true"
            value={name}
            maxLength={MAX_NAME_CHARACTERS}
            aria-invalid={problem !== null}
            aria-describedby={problemId}
            onChange={(event) => setName(event.target.value)}
          />
        </label>
        <Problem id={problemId} problem={problem} />
        <div className="dialog-actions">
          <button type="button" className="button" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" className="button primary" disabled={isBusy}>
            {action}
          </button>
        </div>
      </form>
    </Modal>
  );
}

/** Not shell's Confirm, which closes at once: a refusal is said in the dialog. */
export function DeleteDialog({ store, onClose, onDone }: DialogProps) {
  const { isBusy, problem, run } = useAction(onClose);
  const { total } = store.file_counts;
  async function remove() {
    await deleteStore(store.id);
    uploads.getState().removeAll(store.id);
    onDone?.();
    await server.getState().refresh();
  }
  return (
    <Modal title="Delete collection" onClose={onClose}>
      <p className="kn-text">
        <bdi>{storeName(store)}</bdi> is deleted
        {total > 0 && `, with all that was read out of its ${counted(total, "file")}`}. This cannot be undone.
      </p>
      {total > 0 && <p className="muted small kn-text">The uploaded files themselves stay on the server.</p>}
      <Problem problem={problem} />
      <div className="dialog-actions">
        <button type="button" className="button" onClick={onClose}>
          Cancel
        </button>
        <button type="button" className="button danger" disabled={isBusy} onClick={() => run(remove)}>
          Delete
        </button>
      </div>
    </Modal>
  );
}

/** Why it did not work, said as soon as it is there. */
export function Problem({ id, problem }: { id?: string; problem: string | null }) {
  return (
    <div role="alert" className="kn-live" {...(id === undefined ? {} : { id })}>
      {problem !== null && <p className="notice error kn-problem">{problem}</p>}
    </div>
  );
}

/** Runs what a dialog is for: closes it when that is done, or keeps why not. */
export function useAction(onClose: () => void) {
  const [isBusy, setIsBusy] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);
  async function run(action: () => Promise<void>): Promise<void> {
    setIsBusy(true);
    setProblem(null);
    try {
      await action();
      onClose();
    } catch (error) {
      setProblem(messageOf(error));
      setIsBusy(false);
    }
  }
  return { isBusy, problem, run, refuse: setProblem };
}
