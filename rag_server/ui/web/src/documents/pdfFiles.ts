/** Fonts and character maps that PDF files count on, served beside this page. */

const FILES = {
  ...import.meta.glob<string>("/node_modules/pdfjs-dist/standard_fonts/*.{pfb,ttf}", {
    query: "?url",
    import: "default",
    eager: true,
  }),
  ...import.meta.glob<string>("/node_modules/pdfjs-dist/cmaps/*.bcmap", {
    query: "?url",
    import: "default",
    eager: true,
  }),
};
const URLS = new Map(
  Object.entries(FILES).map(([path, url]) => [path.slice(path.lastIndexOf("/") + 1), url]),
);

/** What PDF.js asks for files by name. */
export class OwnFiles {
  /** @throws Error There is no such file: WebAssembly, for which the page has no leave, is not among them. */
  async fetch({ filename }: { kind: string; filename: string }): Promise<Uint8Array> {
    const url = URLS.get(filename);
    const response = url === undefined ? null : await fetch(url);
    if (!response?.ok) throw new Error(`${filename} is not served by this page`);
    return new Uint8Array(await response.arrayBuffer());
  }
}
