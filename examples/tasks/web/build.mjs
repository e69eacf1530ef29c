// Writes dist: the script of the collection, that of the list, that of the editor, which comes when it is needed, and what names them. Names of scripts
// and styles carry their contents, so that they are kept for ever, and never mixed with those of another build.

import { build } from "esbuild";
import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";

const options = {
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  jsx: "automatic",
  define: { "process.env.NODE_ENV": '"production"' },
  legalComments: "none",
  banner: {
    js: "/* Includes npm convex 1.48.0, Apache License 2.0, Copyright Convex, Inc.; React 19.3.1, Yjs 13.6.33, Tiptap and ProseMirror, MIT License, of their authors. */",
  },
  logLevel: "warning",
};

await rm("dist", { recursive: true, force: true });
await mkdir("dist/assets", { recursive: true });
const { metafile } = await build({
  ...options,
  entryPoints: ["src/collection.ts", "src/tasks.tsx", "src/tasks.css"],
  outdir: "dist/assets",
  splitting: true, // what several use is in a part of its own: two of Yjs would not know each other's documents
  entryNames: "[name]-[hash]",
  chunkNames: "[name]-[hash]",
  metafile: true,
});
await build({ ...options, entryPoints: ["src/bench.ts"], outdir: "dist/assets" });

const outputs = Object.entries(metafile.outputs);
const at = (output) => output.replace(/^dist/, "");
const outputOf = (source) => outputs.find(([, { entryPoint }]) => entryPoint === source);
const [collection, needed] = outputOf("src/collection.ts");
const [script, { imports }] = outputOf("src/tasks.tsx");
const [style] = outputOf("src/tasks.css");
// Those of the collection come first: they are run while the others are on their way.
const parts = new Set([...needed.imports, ...imports].filter(({ kind }) => kind === "import-statement").map(({ path }) => path));
const files = ["/", ...outputs.map(([output]) => at(output)).sort()];

/** Fills in what a file leaves open, each exactly once. */
async function write(name, values) {
  let text = await readFile(`src/${name}`, "utf8");
  for (const [open, value] of Object.entries(values)) {
    if (text.split(open).length !== 2) throw new Error(`src/${name} has not one ${open}`);
    text = text.replace(open, () => value);
  }
  await writeFile(`dist/${name}`, text);
}

await write("index.html", {
  "/assets/tasks.css": at(style),
  "/assets/collection.js": at(collection),
  "/assets/tasks.js": at(script),
  "<!-- parts -->": [...parts].map((part) => `<link rel="modulepreload" href="${at(part)}">`).join("\n"),
});
await write("worker.js", { "[/* files */]": JSON.stringify(files) });
await cp("src/bench.html", "dist/bench.html");
