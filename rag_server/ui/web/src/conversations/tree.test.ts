import { expect, test } from "vitest";
import {
  type AnswerTurn,
  branch,
  EMPTY,
  messagesOf,
  put,
  type QuestionTurn,
  show,
  siblings,
  titleOf,
} from "./tree";

function question(id: string, parent: string | null, createdAt: number): QuestionTurn {
  return { id, parent, role: "user", content: `question ${id}`, createdAt };
}

function answer(id: string, parent: string, createdAt: number, content = `answer ${id}`): AnswerTurn {
  return {
    id,
    parent,
    role: "assistant",
    content,
    createdAt,
    model: "m",
    state: "complete",
    error: null,
    retryAfterS: null,
    finishReason: "stop",
    rag: null,
  };
}

const ids = (turns: { id: string }[]) => turns.map(({ id }) => id);

test("asking again adds a version, shows it, and keeps the one before with what followed it", () => {
  let tree = put(put(put(EMPTY, question("q1", null, 1)), answer("a1", "q1", 2)), question("q2", "a1", 3));
  tree = put(tree, answer("a2", "q2", 4));
  tree = put(tree, answer("b1", "q1", 5));
  expect(ids(branch(tree))).toEqual(["q1", "b1"]);
  expect(ids(siblings(tree, answer("b1", "q1", 5)))).toEqual(["a1", "b1"]);
  expect(ids(branch(show(tree, "a1")))).toEqual(["q1", "a1", "q2", "a2"]);
});

test("a turn that is written again does not move the head", () => {
  let tree = put(put(EMPTY, question("q1", null, 1)), answer("a1", "q1", 2));
  tree = put(tree, question("q2", "a1", 3));
  tree = put(tree, answer("a1", "q1", 2, "more"));
  expect(ids(branch(tree))).toEqual(["q1", "a1", "q2"]);
  expect(branch(tree)[1]?.content).toBe("more");
});

test("the engine is told everything but answers without a word", () => {
  const turns = [question("q1", null, 1), answer("a1", "q1", 2, ""), question("q2", "a1", 3)];
  expect(messagesOf(turns)).toEqual([
    { role: "user", content: "question q1" },
    { role: "user", content: "question q2" },
  ]);
});

test("a title is the first line, of at most 60 characters", () => {
  expect(titleOf("  What is it?\nmore")).toBe("What is it?");
  expect([...titleOf("🙂".repeat(80))].length).toBe(60);
  expect(titleOf(" ")).toBe("New conversation");
});
