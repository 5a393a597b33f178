import { expect, test } from "vitest";
import { chosen, distinct, type Entry, entriesOf, type FileEntry, type FolderEntry, walk } from "./dropping";

const named = (name: string, content = "x") => new File([content], name);

function fileEntry(name: string): FileEntry {
  return { isFile: true, isDirectory: false, name, file: (done) => done(named(name)) };
}

function brokenEntry(name: string): FileEntry {
  return { isFile: true, isDirectory: false, name, file: (_, failed) => failed(new Error("gone")) };
}

/** Hands out its entries by the hundred, as browsers do. */
function folder(name: string, children: Entry[]): FolderEntry {
  return {
    isFile: false,
    isDirectory: true,
    name,
    createReader: () => {
      let at = 0;
      return {
        readEntries: (done) => {
          done(children.slice(at, at + 100));
          at += 100;
        },
      };
    },
  };
}

test("a folder is read to its end, in any depth, and files know their path", async () => {
  const many = Array.from({ length: 250 }, (_, n) => fileEntry(`${n}.txt`));
  const { found } = await walk([
    folder("a", [folder("b", many), fileEntry("top.txt")]),
    fileEntry("alone.txt"),
  ]);
  expect(found).toHaveLength(252);
  expect(found[249]?.path).toBe("a/b/249.txt");
  expect(found[250]?.path).toBe("a/top.txt");
  expect(found[251]?.path).toBeNull();
});

test("hidden files and folders of a folder are left out and counted, what was dropped itself is not", async () => {
  const inside = [fileEntry(".DS_Store"), folder(".git", [fileEntry("config")]), fileEntry("a.txt")];
  const dropped = await walk([folder(".notes", inside), fileEntry(".profile")]);
  expect(dropped.found.map(({ file }) => file.name)).toEqual(["a.txt", ".profile"]);
  expect(dropped.hidden).toBe(2);
});

test("what cannot be read is counted, and the rest comes", async () => {
  const dropped = await walk([folder("a", [brokenEntry("b.txt"), fileEntry("c.txt")])]);
  expect(dropped.found.map(({ path }) => path)).toEqual(["a/c.txt"]);
  expect(dropped.unreadable).toBe(1);
});

test("a file without an entry is taken as it is, and text is not", async () => {
  const file = named("a.txt");
  const items = [
    { kind: "string", webkitGetAsEntry: () => null, getAsFile: () => null },
    { kind: "file", webkitGetAsEntry: () => null, getAsFile: () => file },
  ] as unknown as DataTransferItem[];
  expect((await walk(entriesOf(items))).found).toEqual([{ file, path: null }]);
});

test("files of a chosen folder know their path, hidden ones are left out", () => {
  const inFolder = (path: string) =>
    Object.defineProperty(named(path.split("/").at(-1) ?? ""), "webkitRelativePath", { value: path });
  const dropped = chosen([
    inFolder(".a/b.txt"),
    inFolder(".a/.git/config"),
    inFolder(".a/.b"),
    named("c.txt"),
  ]);
  expect(dropped.found.map(({ path }) => path)).toEqual([".a/b.txt", null]);
  expect(dropped.hidden).toBe(2);
});

test("the same path and size are one file, other paths are others", () => {
  const twice = [
    { file: named("a.txt"), path: null },
    { file: named("a.txt"), path: null },
    { file: named("a.txt", "longer"), path: null },
    { file: named("a.txt"), path: "one/a.txt" },
    { file: named("a.txt"), path: "two/a.txt" },
  ];
  expect(distinct(twice)).toHaveLength(4);
});
