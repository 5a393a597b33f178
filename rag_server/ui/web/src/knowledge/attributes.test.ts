import { expect, test } from "vitest";
import { attributesOf, type Row, rowsOf, withKind } from "./attributes";

const text = (key: string, value: string): Row => ({ key, kind: "text", value });
const number = (value: string): Row => ({ key: "n", kind: "number", value });

test("attributes are the same after a way through the form", () => {
  const attributes = { author: "Ada", year: 1843, tiny: -1.5e-7, public: false, empty: "", digits: "007" };
  expect(attributesOf(rowsOf(attributes))).toEqual({ attributes });
});

test.each(["", " ", "abc", "1,5", "0x10", "1e999", "NaN", "Infinity", "1 2", "--1", "."])(
  "%j is no number",
  (value) => {
    expect(attributesOf([number(value)])).toHaveProperty("problem");
  },
);

test.each([
  [" 12 ", 12],
  ["-3.5", -3.5],
  ["+.5", 0.5],
  ["1e3", 1000],
])("%j is a number", (value, expected) => {
  expect(attributesOf([number(value)])).toEqual({ attributes: { n: expected } });
});

test("a name that is there twice, or a value without a name, is said", () => {
  expect(attributesOf([text("a", "1"), text(" a ", "2")])).toEqual({ problem: "“a” is there twice." });
  expect(attributesOf([text(" ", "lost")])).toEqual({ problem: "The value “lost” has no name." });
});

test("rows that were left empty do not count", () => {
  expect(attributesOf([text("", ""), { key: "", kind: "yes-no", value: "yes" }, text("a", "1")])).toEqual({
    attributes: { a: "1" },
  });
});

test("more than 16 are refused", () => {
  const rows = Array.from({ length: 17 }, (_, n) => text(`key ${n}`, ""));
  expect(attributesOf(rows.slice(1))).toHaveProperty("attributes");
  expect(attributesOf(rows)).toHaveProperty("problem");
});

test("a name that objects have anyway is sent like any other", () => {
  const read = attributesOf([text("__proto__", "x")]);
  expect(JSON.stringify(read)).toBe('{"attributes":{"__proto__":"x"}}');
});

test("another kind keeps the value where it makes sense", () => {
  expect(withKind(text("a", "12"), "number").value).toBe("12");
  expect(withKind(text("a", "12"), "yes-no").value).toBe("no");
  expect(withKind({ key: "a", kind: "yes-no", value: "yes" }, "number").value).toBe("");
});
