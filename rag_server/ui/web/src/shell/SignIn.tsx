import { type FormEvent, useState } from "react";
import { server } from "../server-state";
import { session } from "../session";

/** Asks for the API key; the page shows nothing else until the server takes it. */
export function SignIn() {
  const { refusal, key } = session();
  const [typed, setTyped] = useState("");
  const [isBusy, setBusy] = useState(false);
  async function submit(event: FormEvent) {
    event.preventDefault();
    setBusy(true);
    session.getState().signIn(typed.trim());
    await server.getState().refresh();
    setBusy(false);
  }
  return (
    <main className="sign-in">
      <form className="sign-in-card" onSubmit={submit}>
        <h1>Sign in</h1>
        <p className="muted">
          This server answers those who have an API key. It is kept in this tab only, and forgotten when the
          tab is closed.
        </p>
        <label className="field">
          <span>API key</span>
          <input
            className="input"
            type="password"
            autoComplete="off"
            spellCheck={false}
            value={typed}
            onChange={(event) => setTyped(event.target.value)}
            // biome-ignore lint/a11y/noAutofocus: there is nothing else on the page
            autoFocus
          />
        </label>
        {key !== null && refusal !== null && !isBusy && (
          <p className="notice error" role="alert">
            {refusal}
          </p>
        )}
        <button type="submit" className="button primary" disabled={typed.trim() === "" || isBusy}>
          Sign in
        </button>
        <p className="muted small">
          Whoever runs the server makes one with <code>rag-server keys create NAME</code>.
        </p>
      </form>
    </main>
  );
}
