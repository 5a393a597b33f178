import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import react from "@vitejs/plugin-react";
import { defineConfig, type Plugin } from "vite";

const DIST = "../dist";
const COMPRESSIBLE = /\.(js|mjs|css|svg|html)$/;

/** Writes NAME.gz beside each text file, so that the server compresses nothing while it serves. */
function compressed(): Plugin {
  return {
    name: "compressed",
    apply: "build",
    closeBundle() {
      for (const entry of readdirSync(DIST, { recursive: true, withFileTypes: true })) {
        if (!entry.isFile() || !COMPRESSIBLE.test(entry.name)) continue;
        const path = join(entry.parentPath, entry.name);
        writeFileSync(`${path}.gz`, gzipSync(readFileSync(path), { level: 9 }));
      }
    },
  };
}

export default defineConfig({
  base: "/ui/",
  plugins: [react(), compressed()],
  resolve: {
    alias: {
      // Its build for browsers has the browser parse KaTeX's inline styles, which the content-security policy reports.
      "hast-util-from-html-isomorphic": fileURLToPath(
        new URL("node_modules/hast-util-from-html-isomorphic/index.js", import.meta.url),
      ),
    },
  },
  build: {
    outDir: DIST,
    emptyOutDir: true,
    target: "es2022",
    // The content-security policy takes no data: in scripts and styles.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: { proxy: { "/v1": "http://127.0.0.1:8000", "/ready": "http://127.0.0.1:8000" } },
  test: { environment: "happy-dom", include: ["src/**/*.test.{ts,tsx}"], testTimeout: 60_000 },
} as Parameters<typeof defineConfig>[0]);
