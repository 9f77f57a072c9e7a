// What can be taken away: the view as SVG and PNG, the shown edges as a circuit file, the state as JSON.

import { stroke } from "./layout.js";

export function download(name, content, type) {
  const url = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  const anchor = Object.assign(document.createElement("a"), { href: url, download: name });
  document.body.append(anchor);
  anchor.click();
  anchor.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

/** The picture as standalone SVG: what is shown, with its colours, at its own size. */
export function svgText(picture, title) {
  const { layout, colours } = picture;
  const nodes = picture.svg.firstElementChild.cloneNode(true);
  nodes.removeAttribute("transform");
  for (const hidden of nodes.querySelectorAll(`.off, ${["q", "k", "v"].map((kind) => `.node:not(.has-${kind}) > .port.${kind}`).join(", ")}`)) hidden.remove();
  for (const node of nodes.querySelectorAll(".node")) for (const name of ["tabindex", "role", "aria-pressed"]) node.removeAttribute(name);
  if (picture.chosen !== null) nodes.querySelector(".dots").remove();
  const lines = [...drawn(picture, picture.edges, picture.chosen === null ? 1 : 0.12), ...drawn(picture, picture.chosen ?? [], 1)];
  const size = `viewBox="0 -8 ${layout.width} ${layout.height + 16}" width="${layout.width}" height="${layout.height + 16}"`;
  return `<svg xmlns="http://www.w3.org/2000/svg" ${size} font-family="system-ui, sans-serif" font-size="11">` +
    `<title>${escaped(title)}</title><style>${rules(colours, layout.dense)}</style>` +
    `<rect y="-8" width="100%" height="100%" fill="${colours.card}"/>${behind(nodes)}${lines.join("")}${new XMLSerializer().serializeToString(nodes)}</svg>\n`;
}

/** What belongs under the edges, taken out of the nodes. */
function behind(nodes) {
  const parts = [...nodes.querySelectorAll(".band, .layer, .fold, .folded, .dots")];
  for (const part of parts) part.remove();
  return parts.map((part) => new XMLSerializer().serializeToString(part)).join("");
}

function drawn(picture, edges, fade) {
  return edges.flatMap((edge, i) => {
    const path = picture.pathOf(edge);
    if (path === null) return [];
    const { width, opacity } = stroke(i, edges.length, picture.scored);
    return `<path d="${path.data}" fill="none" stroke-linecap="round" stroke="${picture.colourOf(edge)}" stroke-width="${width.toFixed(2)}" stroke-opacity="${(opacity * fade).toFixed(3)}"/>`;
  }).reverse();
}

function rules(colours, dense) {
  return `${dense ? ".node text{font-size:12.5px}" : ""}text{text-anchor:middle;fill:${colours.ink}}.band{fill:${colours.muted};fill-opacity:.07}.layer,.folded,.tag{fill:${colours.muted};font-size:10px}` +
    `.folded,.tag{text-anchor:start}.fold{stroke:${colours.line}}.dots{stroke:${colours.line};stroke-width:4;stroke-linecap:round}` +
    `.body{fill:${colours.card};stroke:${colours.ink}}.under{fill:${colours.card}}.under+.port{opacity:.45}.shared{fill:none;stroke:${colours.muted}}.node.muted,.half.muted{opacity:.25}` +
    ["q", "k", "v"].map((kind) => `.port.${kind}{fill:${colours[kind]}}`).join("");
}

export function escaped(text) {
  return text.replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);
}

/** The picture as PNG, at twice its size. */
export async function png(picture, title) {
  const image = new Image();
  const url = URL.createObjectURL(new Blob([svgText(picture, title)], { type: "image/svg+xml" }));
  try {
    await new Promise((done, failed) => Object.assign(image, { onload: done, onerror: () => failed(new Error("the picture could not be drawn")), src: url }));
    const canvas = Object.assign(document.createElement("canvas"), { width: 2 * image.width, height: 2 * image.height });
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    return await new Promise((done) => canvas.toBlob(done, "image/png"));
  } finally {
    URL.revokeObjectURL(url);
  }
}

/** The shown edges as a file that the command line reads. */
export function circuitJson(scene) {
  const { circuit, graph } = scene;
  const { edges, convention, ...graphOnly } = circuit.graph;
  const ranking = circuit.rankingOf;
  const numbers = scene.shown.map(({ edge }) => edge);
  const names = numbers.map((edge) => graph.edgeName(edge)).sort(byCodePoint);
  const own = numbers.every((edge) => ranking.rankOf.has(edge));
  const connected = own ? { edges_without_dangling: ranking.connected(ranking.flags(numbers)).length } : {};
  return {
    format: "edge-pruning/circuit",
    version: 1,
    graph: graphOnly,
    provenance: { ...circuit.provenance, selected: "edges shown in the viewer" },
    counts: { edges: names.length, ...connected, edges_total: edges, convention },
    edges: names,
  };
}

function byCodePoint(a, b) {
  return a < b ? -1 : a > b ? 1 : 0;
}
