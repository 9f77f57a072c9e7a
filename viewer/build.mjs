// Bundles src/ into edge_pruning/view/app.js, with the licences of what is bundled, and the hash of what it was made of.
//
//     npm ci && node build.mjs             into the package; node build.mjs FOLDER: into another folder

import { createHash } from "node:crypto";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const target = process.argv[2] ?? join(here, "..", "edge_pruning", "view");

/** Of every source, in order of names, and of the exact versions of the libraries. */
function hashOfSources() {
  const hash = createHash("sha256");
  const names = readdirSync(join(here, "src")).sort().map((name) => `src/${name}`);
  for (const name of [...names, "build.mjs", "package.json", "package-lock.json"]) {
    hash.update(`${name}\n`);
    hash.update(readFileSync(join(here, name)));
  }
  return hash.digest("hex");
}

const { outputFiles, metafile } = await build({
  entryPoints: [join(here, "src", "main.js")], absWorkingDir: here, bundle: true, minify: true, format: "iife", target: "es2022",
  charset: "ascii", legalComments: "none", metafile: true, write: false,
});
const bundled = new Set(Object.keys(metafile.inputs).map((path) => path.match(/node_modules\/((?:@[^/]+\/)?[^/]+)/)?.[1]).filter(Boolean));
const licences = [...bundled].sort().map((name) => {
  const folder = join(here, "node_modules", name);
  const { version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
  return `${name} ${version} (${license})\n\n${readFileSync(join(folder, file), "utf8").trim()}\n`;
});
// "</script" would end the page's script early.
const script = outputFiles[0].text.replaceAll("</script", "<\\/script").trimEnd();
writeFileSync(join(target, "app.js"), `/* Built from viewer/ by build.mjs; sources sha256 ${hashOfSources()}; licences in app.licences.txt */\n${script}\n`);
writeFileSync(join(target, "app.licences.txt"), licences.join(`\n${"-".repeat(80)}\n\n`));
