/**
 * Builds the console: one HTML text with its style and program inside, and the Content-Security-Policy that
 * lets exactly these two run.
 */
import { createHash } from "node:crypto";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = path.dirname(fileURLToPath(import.meta.url));

/** Answers `html` and `policy`. */
export async function buildConsole() {
  const { outputFiles } = await build({
    entryPoints: [path.join(here, "main.tsx")],
    outdir: here,
    write: false,
    bundle: true,
    minify: true,
    format: "iife",
    target: "es2022",
    jsx: "automatic",
    jsxImportSource: "preact",
    legalComments: "none",
    logLevel: "warning",
  });
  const textOf = (end) => outputFiles.find((file) => file.path.endsWith(end)).text.trim();
  const style = textOf(".css");
  const script = textOf(".js").replaceAll("</script", "<\\/script");
  const html = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>minivault</title>
<link rel="icon" href="data:,">
<style>${style}</style>
</head>
<body>
<div id="page"><noscript>The console needs JavaScript; curl does not.</noscript></div>
<script>${script}</script>
</body>
</html>
`;
  const hashOf = (text) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
  const policy = [
    "default-src 'none'",
    `script-src ${hashOf(script)}`,
    `style-src ${hashOf(style)}`,
    "connect-src 'self'",
    "img-src 'self' blob: data:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join("; ");
  return { html, policy };
}
