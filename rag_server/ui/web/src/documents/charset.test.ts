import { describe, expect, it } from "vitest";
import { decodedPage } from "./charset";

const ascii = (text: string) => [...text].map((character) => character.charCodeAt(0));

describe("decodedPage", () => {
  it("reads UTF-8 without a declaration", () => {
    expect(decodedPage(new TextEncoder().encode("<p>Grüße €"))).toBe("<p>Grüße €");
  });

  it("takes the declared encoding", () => {
    expect(decodedPage(new Uint8Array([...ascii('<meta charset="windows-1251"><p>'), 0xcf]))).toContain(
      "<p>П",
    );
  });

  it("takes a byte order mark for more than a declaration", () => {
    const bytes = [0xff, 0xfe, ...ascii("<p>ok").flatMap((byte) => [byte, 0])];
    expect(decodedPage(new Uint8Array(bytes))).toBe("<p>ok");
  });

  it("reads what is no UTF-8 as Western text, also with a declaration of nonsense", () => {
    expect(decodedPage(new Uint8Array([...ascii("<meta charset=nonsense>caf"), 0xe9]))).toContain("café");
  });
});
