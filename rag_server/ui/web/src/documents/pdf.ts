/** Shows a PDF by means of PDF.js: no scripts, no forms, no links, nothing from other hosts. */

import {
  AnnotationEditorType,
  AnnotationMode,
  GlobalWorkerOptions,
  getDocument,
  type PDFDocumentProxy,
} from "pdfjs-dist";
import workerUrl from "pdfjs-dist/build/pdf.worker.min.mjs?url";
import { EventBus, type PDFFindController, PDFLinkService, PDFViewer } from "pdfjs-dist/web/pdf_viewer.mjs";
import { OwnFiles } from "./pdfFiles";
import { markedOn } from "./pdfQuotes";
import type { Span } from "./quotes";

GlobalWorkerOptions.workerSrc = workerUrl;

/** A passage seldom goes on over more pages. */
const PAGES_SEARCHED = 3;
const SCALE = "page-width";

export interface OpenPdf {
  numPages: number;
  /** Goes to a page, and marks the quote on it or those after it; returns whether it was found. */
  show(page: number, quote: string): Promise<boolean>;
  zoom(direction: 1 | -1): void;
}

/**
 * Opens a PDF in `container`, which is positioned absolutely and holds an empty <div>, until the signal is given.
 *
 * @throws Error The file is no PDF that can be read.
 */
export async function openPdf(
  container: HTMLDivElement,
  bytes: Uint8Array,
  onPage: (page: number) => void,
  signal: AbortSignal,
): Promise<OpenPdf> {
  // PDF.js takes the bytes away.
  const task = getDocument({
    data: bytes.slice(),
    useWasm: false,
    // The decoders for scans that are written in JavaScript.
    wasmUrl: `${import.meta.env.BASE_URL}pdfjs/`,
    enableXfa: false,
    useWorkerFetch: false,
    BinaryDataFactory: OwnFiles,
  });
  signal.addEventListener("abort", () => void task.destroy());
  const document = await task.promise;
  signal.throwIfAborted();
  const highlights = new Highlights();
  const { viewer, eventBus } = newViewer(container, highlights, signal);
  const ready = new Promise<void>((resolve) => eventBus.on("pagesinit", () => resolve()));
  eventBus.on("pagechanging", ({ pageNumber }: { pageNumber: number }) => onPage(pageNumber));
  viewer.setDocument(document);
  (viewer.linkService as PDFLinkService).setDocument(document);
  signal.addEventListener("abort", () => viewer.cleanup());
  await ready;
  viewer.currentScaleValue = SCALE;
  fitWidth(container, viewer, signal);
  return {
    numPages: document.numPages,
    zoom: (direction) => (direction > 0 ? viewer.increaseScale() : viewer.decreaseScale()),
    show: async (page, quote) => {
      const first = Math.min(Math.max(Math.round(page), 1), document.numPages);
      viewer.currentPageNumber = first;
      onPage(first);
      const texts = await pageTexts(document, first);
      if (signal.aborted) return false;
      highlights.mark(first - 1, markedOn(texts, quote));
      eventBus.dispatch("updatetextlayermatches", { source: highlights, pageIndex: -1 });
      if (highlights.selected.pageIdx > first - 1) viewer.currentPageNumber = highlights.selected.pageIdx + 1;
      return highlights.selected.pageIdx >= 0;
    },
  };
}

function newViewer(container: HTMLDivElement, highlights: Highlights, abortSignal: AbortSignal) {
  const eventBus = new EventBus();
  const linkService = new PDFLinkService({ eventBus });
  linkService.externalLinkEnabled = false;
  const options = {
    container,
    eventBus,
    linkService,
    findController: highlights as unknown as PDFFindController,
    annotationMode: AnnotationMode.DISABLE,
    annotationEditorMode: AnnotationEditorType.DISABLE,
    enableAutoLinking: false,
    removePageBorders: true,
    abortSignal,
  };
  const viewer = new PDFViewer(options);
  linkService.setViewer(viewer);
  return { viewer, eventBus };
}

/** Keeps a page as wide as its surroundings, until it is zoomed. */
function fitWidth(container: HTMLElement, viewer: PDFViewer, signal: AbortSignal): void {
  const observer = new ResizeObserver(() => {
    if (container.clientWidth > 0 && viewer.currentScaleValue === SCALE) viewer.currentScaleValue = SCALE;
  });
  observer.observe(container);
  signal.addEventListener("abort", () => observer.disconnect());
}

async function pageTexts(document: PDFDocumentProxy, first: number): Promise<string[]> {
  const numbers = Array.from({ length: PAGES_SEARCHED }, (_, index) => first + index);
  const pages = numbers.filter((number) => number <= document.numPages);
  return Promise.all(pages.map((number) => pageText(document, number)));
}

/** The text as the layer of text counts it: without the ends of lines. */
async function pageText(document: PDFDocumentProxy, number: number): Promise<string> {
  const page = await document.getPage(number);
  const { items } = await page.getTextContent({ disableNormalization: true });
  return items.map((item) => ("str" in item ? item.str : "")).join("");
}

/**
 * What a layer of text reads of a find controller to mark what was found.
 *
 * PDF.js's own reads the text of all pages one after the other before it has that of a late one, and takes a quote
 * only with the punctuation, hyphens and spaces that it finds itself.
 */
class Highlights {
  readonly highlightMatches = true;
  readonly state = { highlightAll: true };
  pageMatches: number[][] = [];
  pageMatchesLength: number[][] = [];
  selected = { pageIdx: -1, matchIdx: 0 };
  private hasScrolled = false;

  mark(firstPage: number, spans: Span[][]): void {
    this.pageMatches = [];
    this.pageMatchesLength = [];
    spans.forEach((ofPage, index) => {
      this.pageMatches[firstPage + index] = ofPage.map(({ start }) => start);
      this.pageMatchesLength[firstPage + index] = ofPage.map(({ start, end }) => end - start);
    });
    const marked = spans.findIndex((ofPage) => ofPage.length > 0);
    this.selected = { pageIdx: marked < 0 ? -1 : firstPage + marked, matchIdx: 0 };
    this.hasScrolled = false;
  }

  setDocument(): void {}

  scrollMatchIntoView({ element }: { element: HTMLElement | null }): void {
    if (this.hasScrolled || element === null) return;
    this.hasScrolled = true;
    element.scrollIntoView({ block: "center", inline: "nearest" });
  }
}
