import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI, { AuthenticationError, BadRequestError, NotFoundError, toFile } from "openai";

const client = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: process.env.API_KEY, maxRetries: 0 });
const QUESTION = [{ role: "user", content: "Who is the harbour master?" }];
const CALL = [{ role: "user", content: 'call weather with {"place": "Utsira"}' }];
const PARAMETERS = { type: "object", properties: { place: { type: "string" } }, required: ["place"] };

async function handbook() {
  for await (const store of client.vectorStores.list()) if (store.name === "handbook") return store.id;
  return assert.fail("there is no handbook");
}

test("models are listed and read", async () => {
  const ids = [];
  for await (const model of client.models.list()) ids.push(model.id);

  assert.ok(ids.includes("rag/handbook"));
  assert.equal((await client.models.retrieve("rag/handbook")).id, "rag/handbook");
});

test("chat answers from a collection with citations", async () => {
  const completion = await client.chat.completions.create({ model: "rag/handbook", messages: QUESTION });
  const { content, annotations } = completion.choices[0].message;

  assert.match(content, /Ingrid Solberg/);
  assert.equal(annotations.find(({ type }) => type === "url_citation").url_citation.title, "Harbour");
});

test("a chat stream adds up, with its usage", async () => {
  const stream = client.chat.completions.stream({
    model: "rag/handbook",
    messages: QUESTION,
    stream_options: { include_usage: true },
  });

  assert.match(await stream.finalContent(), /Ingrid Solberg/);
  assert.ok((await stream.totalUsage()).total_tokens > 0);
});

test("tools are run by the package's helper, streamed", async () => {
  const tool = {
    type: "function",
    function: { name: "weather", parse: JSON.parse, parameters: PARAMETERS, function: ({ place }) => `fog at ${place}` },
  };
  const runner = client.chat.completions.runTools({ model: "scripted", messages: CALL, tools: [tool], stream: true });

  assert.match(await runner.finalContent(), /fog at Utsira/);
});

test("a structured answer is parsed", async () => {
  const schema = { type: "object", properties: { ferry: { type: "string" } }, required: ["ferry"], additionalProperties: false };
  const completion = await client.chat.completions.parse({
    model: "scripted",
    messages: [{ role: "user", content: "The next crossing?" }],
    response_format: { type: "json_schema", json_schema: { name: "crossing", strict: true, schema } },
  });

  assert.equal(typeof JSON.parse(completion.choices[0].message.content).ferry, "string");
});

test("completions and embeddings", async () => {
  const completion = await client.completions.create({ model: "scripted", prompt: "say it", max_tokens: 8 });
  const { data } = await client.embeddings.create({ model: "default", input: ["the ferry", "the harbour"] });
  const float = await client.embeddings.create({ model: "default", input: "the ferry", encoding_format: "float" });

  assert.ok(completion.choices[0].text);
  assert.deepEqual(data.map(({ embedding }) => embedding.length), [384, 384]);
  assert.ok(Math.abs(data[0].embedding[0] - float.data[0].embedding[0]) < 1e-4);
});

test("files are uploaded, read, listed and deleted", async () => {
  const file = await client.files.create({ file: await toFile(Buffer.from("Skarv"), "pilot.txt"), purpose: "assistants" });

  assert.equal(await (await client.files.content(file.id)).text(), "Skarv");
  const ids = [];
  for await (const listed of client.files.list({ limit: 1, purpose: "assistants" })) ids.push(listed.id);
  assert.ok(ids.includes(file.id));
  assert.equal((await client.files.delete(file.id)).deleted, true);
});

test("vector stores, their files and batches are polled and searched", async () => {
  const store = await client.vectorStores.create({ name: "node" });
  const file = await client.vectorStores.files.uploadAndPoll(
    store.id,
    await toFile(Buffer.from("The red buoy marks the reef."), "buoy.txt"),
    { pollIntervalMs: 100 },
  );
  assert.equal(file.status, "completed");

  const files = [await toFile(Buffer.from("Mooring one."), "1.txt"), await toFile(Buffer.from("Mooring two."), "2.txt")];
  const batch = await client.vectorStores.fileBatches.uploadAndPoll(store.id, { files }, { pollIntervalMs: 100 });
  assert.equal(batch.file_counts.completed, 2);

  const found = await client.vectorStores.search(store.id, { query: "what marks the reef?", max_num_results: 1 });
  assert.equal(found.data[0].filename, "buoy.txt");
  assert.equal((await client.vectorStores.delete(store.id)).deleted, true);
});

test("responses, whole, streamed and going on", async () => {
  const first = await client.responses.create({ model: "scripted", input: "my boat is called Skarv" });
  const second = await client.responses.create({ model: "scripted", input: "and now?", previous_response_id: first.id });
  const stream = client.responses.stream({ model: "scripted", input: "one two three" });

  assert.match(first.output_text, /Skarv/);
  assert.equal(second.previous_response_id, first.id);
  assert.match((await stream.finalResponse()).output_text, /one two three/);
  assert.equal((await client.responses.inputItems.list(first.id)).data[0].content[0].text, "my boat is called Skarv");
  await client.responses.delete(first.id);
});

test("responses search files and cite them", async () => {
  const response = await client.responses.create({
    model: "scripted",
    input: "Who is the harbour master?",
    tools: [{ type: "file_search", vector_store_ids: [await handbook()] }],
    include: ["file_search_call.results"],
  });
  const search = response.output.find(({ type }) => type === "file_search_call");
  const message = response.output.find(({ type }) => type === "message");

  assert.match(response.output_text, /Ingrid Solberg/);
  assert.ok(search.results.some(({ filename }) => filename === "harbour.md"));
  assert.ok(message.content[0].annotations.some(({ type }) => type === "file_citation"));
});

test("conversations are made, filled and deleted", async () => {
  const conversation = await client.conversations.create({ metadata: { case: "node" } });
  await client.responses.create({ model: "scripted", input: "good morning", conversation: conversation.id });
  const items = [];
  for await (const item of client.conversations.items.list(conversation.id, { order: "asc" })) items.push(item.role);

  assert.deepEqual(items, ["user", "assistant"]);
  assert.equal((await client.conversations.delete(conversation.id)).deleted, true);
});

test("errors have their types", async () => {
  const stranger = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: "rag-wrong", maxRetries: 0 });

  await assert.rejects(stranger.models.retrieve("scripted"), AuthenticationError);
  await assert.rejects(client.files.retrieve("file-nowhere"), NotFoundError);
  await assert.rejects(client.chat.completions.create({ model: "rag/nowhere", messages: QUESTION }), NotFoundError);
  await assert.rejects(client.chat.completions.create({ model: "scripted", messages: "hello" }), BadRequestError);
});
