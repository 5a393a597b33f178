import { type FormEvent, type ReactNode, useState } from "react";
import {
  type ConversationSettings,
  collectionNames,
  engineModels,
  NO_SETTINGS,
} from "../conversations/settings";
import { server } from "../server-state";
import { Modal } from "../shell/Modal";
import { type Draft, draftOf, settingsOf } from "./settings-draft";

interface SettingsDialogProps {
  settings: ConversationSettings;
  onSave(settings: ConversationSettings): void;
  onClose(): void;
}

/** How the conversation is answered; what is left empty is as the server's settings say. */
export function SettingsDialog({ settings, onSave, onClose }: SettingsDialogProps) {
  const { info, models } = server();
  const [draft, setDraft] = useState(() => draftOf(settings));
  const [problem, setProblem] = useState<string | null>(null);
  const defaults = info?.defaults;
  function set(changed: Partial<Draft>) {
    setDraft((before) => ({ ...before, ...changed }));
  }
  function save(event: FormEvent) {
    event.preventDefault();
    const read = settingsOf(draft);
    if (typeof read === "string") {
      setProblem(read);
      return;
    }
    onSave(read);
    onClose();
  }
  return (
    <Modal title="Settings of this conversation" onClose={onClose}>
      <form className="chat-settings" onSubmit={save} noValidate>
        <Collections
          names={collectionNames(models)}
          chosen={draft.collections}
          onChange={(collections) => set({ collections })}
        />
        <Choice
          label="Answering model"
          value={draft.engine}
          onChange={(engine) => set({ engine })}
          options={engineModels(models)}
          empty="Server's default"
        />
        <div className="chat-settings-row">
          <Choice
            label="Search"
            value={draft.retrieve}
            onChange={(retrieve) => set({ retrieve })}
            options={info?.retrieve ?? []}
            empty={byDefault(defaults?.retrieve)}
          />
          <Choice
            label="Reranker"
            value={draft.rerank}
            onChange={(rerank) => set({ rerank })}
            options={info?.rerank ?? []}
            empty={byDefault(defaults?.rerank)}
          />
          <Choice
            label="Order in the prompt"
            value={draft.reorder}
            onChange={(reorder) => set({ reorder })}
            options={info?.reorder ?? []}
            empty={byDefault(defaults?.reorder)}
          />
        </div>
        <div className="chat-settings-row">
          <Count
            label="Candidates"
            value={draft.numCandidates}
            onChange={(numCandidates) => set({ numCandidates })}
            max={1000}
            empty={defaults?.num_candidates}
          />
          <Count
            label="Passages"
            value={draft.numPassages}
            onChange={(numPassages) => set({ numPassages })}
            max={200}
            empty={defaults?.num_passages}
          />
          <Count
            label="Temperature"
            value={draft.temperature}
            onChange={(temperature) => set({ temperature })}
            max={2}
            step={0.1}
          />
        </div>
        <Field label="Filter (JSON)">
          <textarea
            className="input chat-filter"
            rows={3}
            spellCheck={false}
            placeholder='{"type": "eq", "key": "year", "value": 2026}'
            value={draft.filter}
            onChange={(event) => set({ filter: event.target.value })}
          />
        </Field>
        {problem && (
          <p className="notice error" role="alert">
            {problem}
          </p>
        )}
        <div className="dialog-actions">
          <button
            type="button"
            className="button"
            onClick={() => setDraft(draftOf({ ...NO_SETTINGS, collections: draft.collections }))}
          >
            Back to the server's settings
          </button>
          <button type="button" className="button" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" className="button primary">
            Save
          </button>
        </div>
      </form>
    </Modal>
  );
}

function byDefault(value: string | undefined): string {
  return value === undefined ? "Default" : `Default: ${value}`;
}

function Field({ label, children }: { label: string; children: ReactNode }) {
  return (
    // biome-ignore lint/a11y/noLabelWithoutControl: the control is the child
    <label className="field">
      <span>{label}</span>
      {children}
    </label>
  );
}

interface CollectionsProps {
  names: string[];
  chosen: string[];
  onChange(chosen: string[]): void;
}

function Collections({ names, chosen, onChange }: CollectionsProps) {
  return (
    <fieldset className="chat-settings-collections">
      <legend className="muted small">Collections</legend>
      {names.length === 0 && <p className="muted">There is none yet.</p>}
      {names.map((name) => (
        <label key={name}>
          <input
            type="checkbox"
            checked={chosen.includes(name)}
            onChange={(event) =>
              onChange(event.target.checked ? [...chosen, name] : chosen.filter((one) => one !== name))
            }
          />
          <span dir="auto">{name}</span>
        </label>
      ))}
    </fieldset>
  );
}

interface ChoiceProps {
  label: string;
  value: string;
  options: readonly string[];
  empty: string;
  onChange(value: string): void;
}

function Choice({ label, value, options, empty, onChange }: ChoiceProps) {
  return (
    <Field label={label}>
      <select className="input" value={value} onChange={(event) => onChange(event.target.value)}>
        <option value="">{empty}</option>
        {options.map((option) => (
          <option key={option} value={option}>
            {option}
          </option>
        ))}
      </select>
    </Field>
  );
}

interface CountProps {
  label: string;
  value: string;
  max: number;
  step?: number;
  empty?: number | undefined;
  onChange(value: string): void;
}

function Count({ label, value, max, step = 1, empty, onChange }: CountProps) {
  return (
    <Field label={label}>
      <input
        className="input"
        type="number"
        min={step === 1 ? 1 : 0}
        max={max}
        step={step}
        placeholder={empty === undefined ? "" : String(empty)}
        value={value}
        onChange={(event) => onChange(event.target.value)}
      />
    </Field>
  );
}
