import { cpSync, existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import react from "@vitejs/plugin-react";
import { defineConfig, type Plugin } from "vite";

const COMPRESSIBLE = /\.(js|mjs|css|svg|html)$/;

/**
 * Copies the decoders of PDF.js that are written in JavaScript: it loads them by their names, and the content-security policy
 * does not allow those in WebAssembly. Then writes NAME.gz beside each text file, so that the server compresses nothing.
 */
function finished(): Plugin {
  let dist = "";
  return {
    name: "finished",
    apply: "build",
    configResolved({ root, build }) {
      dist = resolve(root, build.outDir);
    },
    closeBundle() {
      // A build that failed says why by itself.
      if (!existsSync(dist)) return;
      const decoders = fileURLToPath(new URL("node_modules/pdfjs-dist/wasm", import.meta.url));
      cpSync(decoders, join(dist, "pdfjs"), {
        recursive: true,
        filter: (path) => !path.endsWith(".wasm") && !path.includes("quickjs"),
      });
      for (const entry of readdirSync(dist, { recursive: true, withFileTypes: true })) {
        if (!entry.isFile() || !COMPRESSIBLE.test(entry.name)) continue;
        const path = join(entry.parentPath, entry.name);
        writeFileSync(`${path}.gz`, gzipSync(readFileSync(path), { level: 9 }));
      }
    },
  };
}

export default defineConfig({
  base: "/ui/",
  plugins: [react(), finished()],
  resolve: {
    alias: {
      // Its build for browsers has the browser parse KaTeX's inline styles, which the content-security policy reports.
      "hast-util-from-html-isomorphic": fileURLToPath(
        new URL("node_modules/hast-util-from-html-isomorphic/index.js", import.meta.url),
      ),
    },
  },
  build: {
    outDir: "../dist",
    emptyOutDir: true,
    target: "es2022",
    // The content-security policy takes no data: in scripts and styles.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: { proxy: { "/v1": "http://127.0.0.1:8000", "/ready": "http://127.0.0.1:8000" } },
  test: { environment: "happy-dom", include: ["src/**/*.test.{ts,tsx}"], testTimeout: 60_000 },
} as Parameters<typeof defineConfig>[0]);
