import { Plus, X } from "lucide-react";
import { type FormEvent, useRef, useState } from "react";
import type { StoreFile } from "../api/shapes";
import { detachFile, setAttributes } from "../api/stores";
import { Modal } from "../shell/Modal";
import { attributesOf, type Kind, MAX_ATTRIBUTES, type Row, rowsOf, withKind } from "./attributes";
import { Problem, useAction } from "./CollectionDialogs";

const KINDS: Record<Kind, string> = { text: "Text", number: "Number", "yes-no": "Yes or no" };

interface AttributesProps {
  file: StoreFile;
  onSaved(file: StoreFile): Promise<unknown>;
  onClose(): void;
}

/** What is known of a file beside its text, for filters. */
export function AttributesDialog({ file, onSaved, onClose }: AttributesProps) {
  const { isBusy, problem, run, refuse } = useAction(onClose);
  const { rows, change, add, remove } = useRows(file);
  function save(event: FormEvent) {
    event.preventDefault();
    const read = attributesOf(rows.map(({ row }) => row));
    if ("problem" in read) refuse(read.problem);
    else {
      void run(async () => {
        await onSaved(await setAttributes(file, read.attributes));
      });
    }
  }
  return (
    <Modal title="Attributes" onClose={onClose}>
      <form className="kn-form" onSubmit={save}>
        <p className="muted small">
          What is known of <bdi>{file.rag.filename}</bdi>, such as author or year. Questions can be limited by
          it.
        </p>
        {rows.map(({ id, row }, index) => (
          <AttributeRow
            key={id}
            number={index + 1}
            row={row}
            onChange={(changed) => change(id, changed)}
            onRemove={() => remove(id)}
          />
        ))}
        <button type="button" className="button" disabled={rows.length >= MAX_ATTRIBUTES} onClick={add}>
          <Plus size={16} aria-hidden />
          Add attribute
        </button>
        <Problem problem={problem} />
        <div className="dialog-actions">
          <button type="button" className="button" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" className="button primary" disabled={isBusy}>
            Save
          </button>
        </div>
      </form>
    </Modal>
  );
}

/** The rows of the form, each with an id that it keeps when others are removed. */
function useRows(file: StoreFile) {
  const [rows, setRows] = useState(() => rowsOf(file.attributes).map((row, id) => ({ id, row })));
  const lastId = useRef(rows.length);
  return {
    rows,
    change: (id: number, row: Row) => setRows(rows.map((one) => (one.id === id ? { id, row } : one))),
    add: () => setRows([...rows, { id: ++lastId.current, row: { key: "", kind: "text", value: "" } }]),
    remove: (id: number) => setRows(rows.filter((one) => one.id !== id)),
  };
}

interface AttributeRowProps {
  number: number;
  row: Row;
  onChange(row: Row): void;
  onRemove(): void;
}

function AttributeRow({ number, row, onChange, onRemove }: AttributeRowProps) {
  return (
    <fieldset className="kn-attribute-row">
      <legend className="visually-hidden">Attribute {number}</legend>
      <input
        className="input"
        dir="auto"
        aria-label="Name"
        placeholder="Name"
        value={row.key}
        onChange={({ target }) => onChange({ ...row, key: target.value })}
      />
      <select
        className="input"
        aria-label="Kind"
        value={row.kind}
        onChange={({ target }) => onChange(withKind(row, target.value as Kind))}
      >
        {Object.entries(KINDS).map(([kind, name]) => (
          <option key={kind} value={kind}>
            {name}
          </option>
        ))}
      </select>
      <ValueInput row={row} onChange={onChange} />
      <button
        type="button"
        className="icon-button"
        aria-label={`Remove attribute ${number}`}
        onClick={onRemove}
      >
        <X size={18} aria-hidden />
      </button>
    </fieldset>
  );
}

function ValueInput({ row, onChange }: Pick<AttributeRowProps, "row" | "onChange">) {
  const set = (value: string) => onChange({ ...row, value });
  if (row.kind === "yes-no") {
    return (
      <select
        className="input"
        aria-label="Value"
        value={row.value}
        onChange={({ target }) => set(target.value)}
      >
        <option value="yes">Yes</option>
        <option value="no">No</option>
      </select>
    );
  }
  return (
    <input
      className="input"
      dir="auto"
      aria-label="Value"
      placeholder="Value"
      inputMode={row.kind === "number" ? "decimal" : "text"}
      value={row.value}
      onChange={({ target }) => set(target.value)}
    />
  );
}

interface RemoveProps {
  file: StoreFile;
  onRemoved(fileId: string): Promise<unknown>;
  onClose(): void;
}

export function RemoveDialog({ file, onRemoved, onClose }: RemoveProps) {
  const { isBusy, problem, run } = useAction(onClose);
  async function remove() {
    await detachFile(file);
    await onRemoved(file.id);
  }
  return (
    <Modal title="Remove file" onClose={onClose}>
      <p className="kn-text">
        <bdi>{file.rag.filename}</bdi> is removed from this collection, with all that was read out of it. The
        file itself stays on the server.
      </p>
      <Problem problem={problem} />
      <div className="dialog-actions">
        <button type="button" className="button" onClick={onClose}>
          Cancel
        </button>
        <button type="button" className="button danger" disabled={isBusy} onClick={() => run(remove)}>
          Remove
        </button>
      </div>
    </Modal>
  );
}
