// The chat page: a client of the public API. Everything that comes from documents or the model is put in as text, never as HTML.

const byId = (id) => document.getElementById(id);
const [model, status, conversation, form, question, send, key] =
  ["model", "status", "conversation", "form", "question", "send", "key"].map(byId);
const RETRY_MS = 2000;

let messages = [];
let running = null;

function element(name, { text, ...attributes } = {}, ...children) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// The key stays in this tab; it is gone when the tab is closed.
function authorization() {
  const kept = sessionStorage.getItem("key");
  return kept ? { authorization: `Bearer ${kept}` } : {};
}

async function listModels() {
  const response = await fetch("/v1/models", { headers: authorization() });
  key.parentElement.hidden = response.status !== 401;
  if (response.status === 401) return null;
  const { data } = await response.json();
  const chosen = model.value;
  const collections = data.filter(({ id }) => id.startsWith("rag/"));
  const engines = data.filter(({ id, rag }) => !id.startsWith("rag/") && rag?.task !== "embed");
  model.replaceChildren(
    ...collections.map(({ id }) => element("option", { value: id, text: id.slice("rag/".length) })),
    ...engines.map(({ id }) => element("option", { value: id, text: `${id} (without documents)` })),
  );
  if ([...model.options].some(({ value }) => value === chosen)) model.value = chosen;
  return collections.length;
}

// Shows what is missing until nothing is.
async function watchReadiness() {
  try {
    const { missing } = await (await fetch("/ready")).json();
    const details = Object.values(missing);
    const collections = await listModels();
    if (collections === null) details.push("This server needs an API key: enter it above.");
    if (collections === 0 && !missing.index) details.push("There is no collection yet: run `rag-server index PATH --collection NAME`.");
    status.hidden = details.length === 0;
    status.textContent = details.join(" · ");
    // With the key, the page looks again by itself.
    if (details.length > 0 && collections !== null) setTimeout(watchReadiness, RETRY_MS);
  } catch {
    status.hidden = false;
    status.textContent = "The server does not answer; trying again.";
    setTimeout(watchReadiness, RETRY_MS);
  }
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffered = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    buffered += value;
    const blocks = buffered.split("\n\n");
    buffered = blocks.pop();
    for (const block of blocks) {
      if (block.startsWith("data: ") && block !== "data: [DONE]") yield JSON.parse(block.slice("data: ".length));
    }
  }
}

async function ask(text) {
  conversation.querySelector(".hint")?.remove();
  conversation.append(element("article", { class: "user", dir: "auto", text }));
  const answer = element("div", { class: "text waiting", dir: "auto" });
  const article = element("article", { class: "assistant" }, answer);
  conversation.append(article);
  answer.scrollIntoView({ block: "end" });
  messages.push({ role: "user", content: text });
  running = new AbortController();
  send.textContent = "Stop";
  let content = "";
  try {
    const rag = await stream((piece) => {
      content += piece;
      answer.textContent = content;
      conversation.scrollTop = conversation.scrollHeight;
    });
    messages.push({ role: "assistant", content });
    showSources(article, answer, content, rag);
  } catch (error) {
    if (error.name === "AbortError") {
      if (content) messages.push({ role: "assistant", content });
      else messages.pop();
    } else {
      messages.pop();
      article.append(element("p", { class: "error", role: "alert", text: error.message }));
      question.value ||= text;
    }
  } finally {
    answer.classList.remove("waiting");
    send.textContent = "Ask";
    running = null;
    conversation.scrollTop = conversation.scrollHeight;
  }
}

// Streams the answer to the conversation and returns the merged `rag` object.
async function stream(onText) {
  const response = await fetch("/v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json", ...authorization() },
    body: JSON.stringify({ model: model.value, messages, stream: true }),
    signal: running.signal,
  });
  if (!response.ok) throw new Error((await response.json()).error.message);
  let rag = {};
  for await (const event of events(response)) {
    if (event.error) throw new Error(event.error.message);
    rag = { ...rag, ...event.rag };
    for (const { delta } of event.choices) if (delta.content) onText(delta.content);
  }
  return rag;
}

// Puts links at the places that are cited, and lists the quotes below.
// Where in its document a passage stands, such as ["page 3", "Methods > Sampling"].
function where({ page, slide, sheet, heading }) {
  const numbered = [page && `page ${page}`, slide && `slide ${slide}`, sheet && `sheet ${sheet}`];
  return [...numbered, heading].filter(Boolean);
}

function showSources(article, answer, content, { citations = [], passages = [] }) {
  if (passages.length === 0) return;
  const passageOf = new Map(passages.map((passage) => [passage.id, passage]));
  // Offsets of the API count code points, those of JavaScript count UTF-16 units.
  const points = [...content];
  const numberOf = (passage) => passages.indexOf(passage) + 1;
  const parts = [];
  let shown = 0;
  for (const { passage_id, number, answer_start, answer_end } of citations) {
    const passage = passageOf.get(passage_id);
    if (answer_end <= shown) continue;
    parts.push(points.slice(shown, number ? Math.max(answer_start, shown) : answer_end).join(""));
    const link = element("a", { href: passage.url, target: "_blank", rel: "noopener", title: passage.title || passage.filename });
    link.textContent = `[${number ?? numberOf(passage)}]`;
    parts.push(element("sup", {}, link));
    shown = answer_end;
  }
  parts.push(points.slice(shown).join(""));
  answer.replaceChildren(...parts);
  // A model that repeats itself need not be quoted each time.
  const distinct = [...new Map(citations.map((citation) => [`${citation.passage_id} ${citation.quote}`, citation])).values()];
  const rows = distinct.map(({ passage_id, quote, verified }) => {
    const passage = passageOf.get(passage_id);
    const link = element("a", { href: `${passage.url}#passage`, target: "_blank", rel: "noopener", text: `[${numberOf(passage)}] ${[passage.title || passage.filename, ...where(passage.place)].join(", ")}` });
    const support = verified
      ? element("q", { text: quote, dir: "auto" })
      : element("span", { class: "unverified", text: " not verified: the passage does not say this" });
    return element("li", {}, link, support);
  });
  if (rows.length === 0) rows.push(element("li", { class: "unverified", text: "No sentence of this answer is supported by the passages that were found." }));
  article.append(element("ul", { class: "sources" }, ...rows));
}

function reset() {
  running?.abort();
  messages = [];
  conversation.replaceChildren(element("p", { class: "hint", text: "Ask a question about your documents." }));
  question.focus();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (running) return running.abort();
  const text = question.value.trim();
  if (!text || !model.value) return;
  question.value = "";
  ask(text);
});
question.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  if (!running) form.requestSubmit();
});
key.addEventListener("change", () => {
  sessionStorage.setItem("key", key.value.trim());
  watchReadiness();
});
byId("new").addEventListener("click", reset);
reset();
watchReadiness();
