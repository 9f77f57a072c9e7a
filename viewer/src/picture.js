// The picture: edges on a canvas, nodes as SVG over it, so that thousands of edges are quick and nodes can be reached
// with the keyboard. What is in focus is drawn on a second canvas, over the muted rest.

import { select } from "d3-selection";
import { zoom, zoomIdentity } from "d3-zoom";
import { stroke } from "./layout.js";

const SLICE = 700; // edges drawn at a time, so that the page answers in between
const SVG = "http://www.w3.org/2000/svg";
const HALO = 400; // up to so many edges each has a rim that parts it from those below

export class Picture {
  /** on: { node(index, event), edge(edge, event), nothing(), hover(thing, event) } */
  constructor(root, on) {
    this.root = root;
    this.on = on;
    [this.base, this.top] = root.querySelectorAll("canvas");
    this.svg = root.querySelector("svg");
    this.transform = zoomIdentity;
    this.paths = new Map();
    this.edges = [];
    this.chosen = null;
    this.zoom = zoom().scaleExtent([0.15, 6]).filter((event) => this.#zooms(event)).on("zoom", ({ transform }) => {
      this.transform = transform;
      this.#place();
    });
    select(this.svg).call(this.zoom).on("dblclick.zoom", null);
    this.svg.addEventListener("pointermove", (event) => this.#moved(event));
    this.svg.addEventListener("pointerleave", (event) => this.on.hover(null, event));
    this.svg.addEventListener("click", (event) => this.#clicked(event));
    this.svg.addEventListener("keydown", (event) => this.#key(event));
    this.svg.addEventListener("focusin", (event) => this.#focused(event));
    new ResizeObserver(() => this.layout && this.#resized()).observe(root);
  }

  /** Wheels zoom with ctrl only and single fingers scroll the page, so that nobody is caught in the picture. */
  #zooms(event) {
    if (event.type === "wheel") return event.ctrlKey || event.metaKey;
    if (event.type.startsWith("touch")) return event.touches.length > 1;
    return !event.button;
  }

  setLayout(layout, moved) {
    const other = !this.layout || layout.width !== this.layout.width || layout.height !== this.layout.height;
    this.layout = layout;
    this.moved = moved;
    this.paths.clear();
    this.svg.classList.toggle("dense", layout.dense);
    if (other) this.#resized();
  }

  /** The tallest that the picture becomes. */
  get mostHeight() {
    return Math.max(420, Math.min(1100, 1.05 * window.innerHeight));
  }

  #resized() {
    const width = this.root.clientWidth;
    const { layout } = this;
    const scale = Math.min(1.3, width / layout.width);
    const height = Math.round(Math.min(this.mostHeight, Math.max(300, layout.height * scale + 28)));
    this.root.style.height = `${height}px`;
    this.ratio = Math.min(2, window.devicePixelRatio || 1);
    for (const canvas of [this.base, this.top]) {
      canvas.width = width * this.ratio;
      canvas.height = height * this.ratio;
    }
    this.fit();
  }

  fit() {
    const { width, height } = { width: this.root.clientWidth, height: this.root.clientHeight };
    const scale = Math.min(1.3, width / this.layout.width, (height - 24) / this.layout.height);
    const x = (width - scale * this.layout.width) / 2;
    select(this.svg).call(this.zoom.transform, zoomIdentity.translate(x, Math.max(12, (height - scale * this.layout.height) / 2)).scale(scale));
  }

  scaleBy(factor) {
    select(this.svg).call(this.zoom.scaleBy, factor);
  }

  #place() {
    const { x, y, k } = this.transform;
    this.svg.firstElementChild.setAttribute("transform", `translate(${x},${y}) scale(${k})`);
    this.svg.classList.toggle("small", k < 0.55);
    this.redraw();
  }

  // --- edges ---------------------------------------------------------------------------------------------------------

  /** edges: strongest first. chosen: those in focus, or null. scored: whether the order says which are strong. */
  setEdges(edges, chosen, scored) {
    Object.assign(this, { edges, chosen, scored });
    for (const part of [this.base, this.svg]) part.classList.toggle("muted", chosen !== null);
    this.redraw();
  }

  /** Draw again in the colours of the page's scheme, which may have changed. */
  recolour() {
    this.colours = null;
    this.redraw();
  }

  redraw() {
    cancelAnimationFrame(this.frame);
    cancelAnimationFrame(this.topFrame);
    this.colours ??= coloursOf(this.root);
    this.#draw(this.base, this.edges, "frame");
    this.#draw(this.top, this.chosen ?? [], "topFrame");
  }

  /** The strongest first, weaker ones behind them; many are drawn in slices. */
  #draw(canvas, edges, frame) {
    const context = canvas.getContext("2d");
    const { x, y, k } = this.transform;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.setTransform(k * this.ratio, 0, 0, k * this.ratio, x * this.ratio, y * this.ratio);
    context.lineCap = "round";
    context.globalCompositeOperation = "destination-over";
    let done = 0;
    const next = () => {
      this.#slice(context, edges, done, Math.min(edges.length, done + SLICE));
      done += SLICE;
      if (done < edges.length) this[frame] = requestAnimationFrame(next);
    };
    next();
  }

  #slice(context, edges, from, to) {
    const rim = this.colours.card;
    for (let i = from; i < to; i++) {
      const edge = edges[i];
      const path = this.pathOf(edge);
      if (path === null) continue;
      const { width, opacity } = stroke(i, edges.length, this.scored);
      context.globalAlpha = opacity;
      context.strokeStyle = this.colourOf(edge);
      context.lineWidth = width;
      context.stroke(path.drawn);
      if (edges.length > HALO) continue;
      context.globalAlpha = 0.6 * opacity;
      context.strokeStyle = rim;
      context.lineWidth = width + 2.4;
      context.stroke(path.drawn);
    }
  }

  colourOf(edge) {
    return this.colours[edge.group || this.layout.graph.readers[edge.to].kind];
  }

  /** { data, drawn } of an edge; null where both ends are in one group. */
  pathOf(edge) {
    const known = this.paths.get(edge.edge);
    if (known !== undefined) return known;
    const data = this.layout.path(edge.from, edge.to, this.moved);
    const path = data === null ? null : { data, drawn: new Path2D(data) };
    this.paths.set(edge.edge, path);
    return path;
  }

  /** The topmost edge near a point of the picture. */
  #edgeAt(event) {
    const bounds = this.svg.getBoundingClientRect();
    const context = this.base.getContext("2d");
    const [px, py] = this.transform.invert([event.clientX - bounds.left, event.clientY - bounds.top]);
    context.save();
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.lineWidth = 7 / this.transform.k;
    const found = (this.chosen ?? this.edges).slice(0, 6000).find((edge) => {
      const path = this.pathOf(edge);
      return path !== null && context.isPointInStroke(path.drawn, px, py);
    });
    context.restore();
    return found;
  }

  // --- nodes ---------------------------------------------------------------------------------------------------------

  /** nodes: Map index -> { label, note, title, pinned, focus, muted, ports }. shared: Map reader -> { muted }, of those read. */
  setNodes(nodes, shared) {
    const focused = this.svg.contains(document.activeElement) ? document.activeElement.dataset.node : null;
    if (this.drawn?.graph !== this.layout.graph) this.#build();
    const { layout, drawn, moved } = this;
    if (drawn.layout !== layout) drawn.ground.replaceChildren(...backdrop(layout), dots(layout));
    drawn.layout = layout;
    drawn.groups.replaceChildren();
    for (const [index, node] of nodes) {
      if (typeof index === "string") drawn.groups.append(nodeElement(layout, index, node, moved.get(index)));
    }
    for (const [index, made] of drawn.nodes) this.#update(index, made, nodes.get(index));
    for (const [reader, made] of drawn.bars) this.#updateBar(reader, made, shared.get(reader));
    this.#roving(focused ?? this.current);
    if (focused !== null && document.activeElement?.dataset?.node !== focused) {
      this.svg.querySelector(`[data-node="${focused}"]:not(.off)`)?.focus({ preventScroll: true });
    }
  }

  /** All nodes at once, out of sight: showing one later needs no layout by the browser, so that the slider is quick. */
  #build() {
    const { graph } = this.layout;
    const content = element("g", {});
    const { x, y, k } = this.transform;
    content.setAttribute("transform", `translate(${x},${y}) scale(${k})`);
    const [ground, bars, nodes, groups] = ["ground", "bars", "nodes", "groups"].map((name) => element("g", { class: name }));
    content.append(ground, bars, nodes, groups);
    const made = (root, key) => [key, { element: root.appendChild(element("g", { class: "off" })), look: "" }];
    const shared = graph.readers.map((_, reader) => reader).filter((reader) => this.layout.isShared(reader));
    this.drawn = {
      graph, ground, groups,
      bars: new Map(shared.map((reader) => made(bars, reader))), nodes: new Map(graph.nodes.map((_, index) => made(nodes, index))),
    };
    for (const [index, one] of this.drawn.nodes) this.#put(index, one, { label: labelOf(graph.nodes[index]) });
    this.svg.replaceChildren(content);
  }

  /** Make the element of a node anew if it looks different, and set its state. */
  #update(index, made, node) {
    if (node !== undefined) {
      this.#put(index, made, node);
      describe(made.element, this.layout.graph.nodes[index].kind, node);
    } else if (made.seen) {
      made.element.classList.add("off");
    }
    made.seen = node !== undefined;
  }

  #put(index, made, node) {
    const at = this.moved.get(index) ?? this.layout.boxes[index];
    const look = JSON.stringify([node.label, node.note, at.w, at.h]);
    if (made.look !== look) {
      const anew = nodeElement(this.layout, index, node, at);
      made.element.replaceWith(anew);
      Object.assign(made, { look, element: anew });
    }
    const transform = `translate(${at.x},${at.y})`;
    if (made.element.getAttribute("transform") !== transform) made.element.setAttribute("transform", transform);
  }

  #updateBar(reader, made, bar) {
    const look = JSON.stringify(this.layout.shared(reader));
    if (bar && made.look !== look) {
      const anew = barElement(this.layout, reader);
      made.element.replaceWith(anew);
      Object.assign(made, { look, element: anew });
    }
    const state = bar === undefined ? "half off" : bar.muted ? "half muted" : "half";
    if (made.element.getAttribute("class") !== state) made.element.setAttribute("class", state);
  }

  #roving(wanted) {
    const all = [...this.svg.querySelectorAll(".node:not(.off)")];
    const current = all.find((element) => element.dataset.node === wanted) ?? all.at(-1);
    for (const element of all) element.setAttribute("tabindex", element === current ? "0" : "-1");
    this.current = current?.dataset.node;
  }

  #nodeOf(event) {
    return event.target.closest?.(".node")?.dataset.node;
  }

  #clicked(event) {
    const node = this.#nodeOf(event);
    if (node !== undefined) return this.on.node(key(node), event);
    const edge = this.#edgeAt(event);
    return edge ? this.on.edge(edge, event) : this.on.nothing(event);
  }

  #moved(event) {
    if (event.buttons) return;
    const node = this.#nodeOf(event);
    if (node !== undefined) return void this.on.hover({ node: key(node) }, event);
    cancelAnimationFrame(this.hit);
    this.hit = requestAnimationFrame(() => {
      const edge = this.#edgeAt(event);
      this.svg.classList.toggle("over-edge", Boolean(edge));
      this.on.hover(edge ? { edge } : null, event);
    });
  }

  #focused(event) {
    const node = this.#nodeOf(event);
    if (node === undefined) return;
    this.#roving(node);
    if (event.target.matches(":focus-visible")) this.on.hover({ node: key(node) }, event);
  }

  /** Arrows go to the nearest node in their direction; enter and space do what a click does. */
  #key(event) {
    const node = this.#nodeOf(event);
    if (node === undefined) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.on.node(key(node), event);
      return;
    }
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    const at = centre(event.target.closest(".node"));
    let [best, least] = [null, Infinity];
    for (const element of this.svg.querySelectorAll(".node:not(.off)")) {
      const there = centre(element);
      const [dx, dy] = [there.x - at.x, there.y - at.y];
      const ahead = dx * step[0] + dy * step[1];
      const aside = Math.abs(dx * step[1]) + Math.abs(dy * step[0]);
      if (ahead > 1 && ahead + 2.5 * aside < least) [best, least] = [element, ahead + 2.5 * aside];
    }
    best?.focus();
  }
}

function key(node) {
  return node.startsWith("group:") ? node : Number(node);
}

function centre(element) {
  const { left, top, width, height } = element.getBoundingClientRect();
  return { x: left + width / 2, y: top + height / 2 };
}

export function coloursOf(element) {
  const style = getComputedStyle(element);
  const names = ["q", "k", "v", "mlp", "logits", "both", "first", "second", "card", "ink", "muted", "line"];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

function element(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

/** Bands and numbers of the layers, and the folded ones. */
function backdrop(layout) {
  const parts = [];
  for (let layer = 0; layer < layout.graph.layers; layer++) {
    if (layout.folded[layer]) continue;
    const top = layout.tops[layer];
    if (layer % 2 === 0) parts.push(element("rect", { class: "band", x: 6, y: top, width: layout.width - 12, height: layout.row, rx: 6 }));
    parts.push(element("text", { class: "layer", x: 24, y: top + layout.row / 2 + 4 }, layer));
  }
  for (const { first, last, top } of layout.folds) {
    const words = `${first === last ? `layer ${first}` : `layers ${first}–${last}`}: no edges`;
    parts.push(element("line", { class: "fold", x1: 14, x2: layout.width - 14, y1: top + 10, y2: top + 10 }));
    parts.push(element("text", { class: "folded", x: layout.left - 22, y: top + 13.5 }, words));
  }
  return parts;
}

/** A faint dot for each node; those with an edge cover theirs. */
function dots(layout) {
  const places = layout.graph.nodes.flatMap(({ kind, layer }, i) => {
    const plain = kind === "head" || kind === "mlp";
    return plain && !layout.folded[layer] ? [`M${layout.boxes[i].x} ${layout.boxes[i].y}h0`] : [];
  });
  return element("path", { class: "dots", d: places.join("") || "M0 0" });
}

/** The keys' or the values' half of a shared key-value head's bar, with the outline of both. */
function barElement(layout, reader) {
  const { x, y, w, h } = layout.shared(reader);
  const { kind, name } = layout.graph.readers[reader];
  const half = element("g", {});
  const own = { x: x - (kind === "k" ? w / 2 : 0), y: y - h / 2, width: w / 2, height: h, rx: 4 };
  half.append(
    element("title", {}, name),
    element("rect", { class: "under", ...own }),
    element("rect", { class: `port ${kind}`, ...own }),
    element("rect", { class: "shared", x: x - w / 2, y: y - h / 2, width: w, height: h, rx: 4 }),
  );
  return half;
}

/** What a node is called in the picture. */
export function labelOf({ kind, name, layer, head }) {
  return kind === "head" ? `${layer}.${head}` : name;
}

/** State and words of a node's element. */
function describe(group, kind, node) {
  const ports = [...(node.ports ?? [])].map((port) => `has-${port}`);
  const classes = ["node", kind, node.muted && "muted", node.pinned && "pinned", node.focus && "focus", node.labelled && "labelled", ...ports];
  const attributes = { class: classes.filter(Boolean).join(" "), "aria-label": node.title, "aria-pressed": String(Boolean(node.focus)) };
  for (const [name, value] of Object.entries(attributes)) if (group.getAttribute(name) !== value) group.setAttribute(name, value);
}

function nodeElement(layout, index, node, at) {
  const kind = typeof index === "string" ? "group" : layout.graph.nodes[index].kind;
  const group = element("g", { "data-node": index, role: "button", transform: `translate(${at.x},${at.y})` });
  if (node.title === undefined) group.setAttribute("class", `node ${kind} off`);
  else describe(group, kind, node);
  const wide = kind === "group" ? Math.max(at.w, 7 * node.label.length + 16) : at.w;
  const rounded = kind === "head" ? at.h / 2 : kind === "mlp" ? 3 : 6;
  group.append(element("rect", { class: "body", x: -wide / 2, y: -at.h / 2, width: wide, height: at.h, rx: rounded }));
  if (at.h > 10) group.append(element("text", { y: 3.8 }, node.label));
  if (node.note) group.append(element("text", { class: "tag", x: at.w / 2 + 5, y: 3.8 }, node.note));
  for (const port of kind === "head" ? ["q", "k", "v"] : []) {
    group.append(element("rect", { class: `port ${port}`, x: { q: -0.3, k: 0, v: 0.3 }[port] * at.w - 4, y: at.h / 2 - 2, width: 8, height: 4, rx: 2 }));
  }
  return group;
}
