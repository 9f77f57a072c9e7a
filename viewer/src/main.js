// The page: reads the data block, wires the controls to the state, and shows what follows from it.

import { unzlibSync } from "fflate";
import { Curves } from "./curves.js";
import { count, h, later, number, percent } from "./dom.js";
import { circuitJson, download, png, svgText } from "./exports.js";
import { Panel, Tooltip, edgeFacts, groupWords, nodeFacts } from "./facts.js";
import { Heads } from "./heads.js";
import { Layout } from "./layout.js";
import { KINDS, MOST_DRAWN, Scene, Shown, checkedState, sameGraph, startState } from "./model.js";
import { Picture, labelOf } from "./picture.js";
import { Table } from "./table.js";

const STEPS = 1000; // of the slider, along the logarithm of the size
const get = (id) => document.getElementById(id);

class App {
  constructor(content) {
    this.circuits = content.circuits.map((circuit) => new Shown(circuit, unzlibSync));
    this.state = checkedState(fromHash(), this.circuits);
    this.picture = new Picture(get("picture"), {
      node: (node, event) => this.clickNode(node, event),
      edge: (edge) => this.focus(this.scene.nameOf(edge)),
      nothing: () => this.set({ focus: null }),
      hover: (thing, event) => this.hover(thing, event),
    });
    this.tooltip = new Tooltip(get("tooltip"), get("stage"));
    this.curves = new Curves(get("curves"), (size) => this.set({ size: this.possible(size) }));
    this.table = new Table(get("table"), (name) => this.focus(name));
    this.panel = new Panel(get("panel"), {
      node: (name) => this.focus(name), edge: (name) => this.focus(name), clear: () => this.set({ focus: null }),
      pin: (name) => this.pin(name), label: (name, words) => this.label(name, words),
      group: (name, nodes) => this.group(name, nodes), ungroup: (name) => this.ungroup(name),
    });
    this.heads = new Heads(get("heads"), { head: (head) => this.set({ head }), pair: (pair) => this.set({ pair }) }, unzlibSync);
    this.showTable = later(() => this.table.show(this.scene), 120);
    this.saveHash = later(() => toHash(this.state), 160);
    this.#controls();
    this.render();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.picture.recolour());
    addEventListener("hashchange", () => this.#followHash());
    get("explorer").dataset.ready = "true";
  }

  // --- state ---------------------------------------------------------------------------------------------------------

  set(changes) {
    const sized = "size" in changes && Object.keys(changes).length === 1;
    this.state = { ...this.state, ...changes };
    this.render({ keepLayout: sized && this.dragging });
  }

  #followHash() {
    const given = fromHash();
    if (given && JSON.stringify(checkedState(given, this.circuits)) !== JSON.stringify(this.state)) {
      this.state = checkedState(given, this.circuits);
      this.render();
    }
  }

  /** A size within what the page holds. */
  possible(size) {
    return Math.max(1, Math.min(Math.round(size) || 1, this.circuits[this.state.circuit].rankingOf.size));
  }

  focus(name) {
    this.set({ focus: name, ...(this.circuits[this.state.circuit].patterns?.heads.some(({ node }) => node === name) ? { head: name } : {}) });
  }

  clickNode(node, event) {
    const name = typeof node === "string" ? node : this.scene.graph.nodes[node].name;
    const { focus } = this.state;
    const first = focus !== null && !focus.includes("->") && !focus.includes("~") && !focus.startsWith("group:");
    if (event.shiftKey && first && focus !== name) this.set({ focus: `${focus}~${name}` });
    else if (focus === name) this.set({ focus: null });
    else this.focus(name);
  }

  pin(name) {
    const { pins } = this.state;
    this.set({ pins: pins.includes(name) ? pins.filter((pin) => pin !== name) : [...pins, name] });
  }

  label(name, words) {
    const labels = { ...this.state.labels };
    if (words.trim()) labels[name] = words.trim();
    else delete labels[name];
    this.set({ labels });
  }

  group(name, nodes) {
    const groups = this.state.groups.map((group) => ({ ...group, nodes: group.nodes.filter((node) => !nodes.includes(node)) }));
    this.set({ groups: [...groups.filter((group) => group.name !== name && group.nodes.length), { name, nodes }], pins: [], focus: null });
  }

  ungroup(name) {
    this.set({ groups: this.state.groups.filter((group) => group.name !== name), focus: null });
  }

  // --- controls ------------------------------------------------------------------------------------------------------

  #controls() {
    const options = this.circuits.map((circuit, i) => ({ circuit, i }));
    const found = options.filter(({ circuit }) => circuit.kind === "found");
    fill(get("circuit"), found.map(({ circuit, i }) => [i, circuit.name]));
    get("circuit").parentElement.hidden = found.length < 2;
    get("circuit").addEventListener("change", ({ target }) => this.set({ circuit: Number(target.value), other: null, size: null, focus: null }));
    get("other").addEventListener("change", ({ target }) => this.set({ other: target.value === "" ? null : Number(target.value) }));
    const slider = get("size");
    slider.addEventListener("input", () => {
      this.dragging = true;
      this.set({ size: this.#sizeAt(Number(slider.value)) });
    });
    slider.addEventListener("change", () => {
      this.dragging = false;
      this.render();
    });
    slider.addEventListener("keydown", (event) => this.#nudge(event));
    get("size-number").addEventListener("change", ({ target }) => this.set({ size: this.possible(Number(target.value)) }));
    get("as-found").addEventListener("click", () => this.set({ size: null }));
    get("show").addEventListener("change", ({ target }) => this.set({ show: Number(target.value) }));
    get("search").addEventListener("input", later(() => this.set({ search: get("search").value }), 120));
    get("notes").addEventListener("change", ({ target }) => this.set({ notes: target.value }));
    get("fold").addEventListener("change", ({ target }) => this.set({ fold: target.checked }));
    for (const [id, factor] of [["zoom-in", 1.3], ["zoom-out", 1 / 1.3]]) get(id).addEventListener("click", () => this.picture.scaleBy(factor));
    get("fit").addEventListener("click", () => this.picture.fit());
    get("reset").addEventListener("click", () => {
      this.state = { ...startState(), circuit: this.state.circuit, notes: this.state.notes };
      this.render();
    });
    this.#exports();
    document.addEventListener("keydown", (event) => this.#key(event));
    const help = get("help");
    get("help-open").addEventListener("click", () => help.showModal());
    get("help-close").addEventListener("click", () => help.close());
  }

  #exports() {
    const name = (ending) => `${this.scene.circuit.name}-${this.scene.size}${ending}`.replace(/[^\w.-]+/g, "-");
    const title = () => `${this.scene.circuit.title ?? this.scene.circuit.name}: ${count(this.scene.shown.length)} edges`;
    const actions = {
      "save-svg": () => download(name(".svg"), svgText(this.picture, title()), "image/svg+xml"),
      "save-png": async () => download(name(".png"), await png(this.picture, title())),
      "save-circuit": () => download(name(".json"), `${JSON.stringify(circuitJson(this.scene), null, 2)}\n`, "application/json"),
      "save-state": () => download(name("-view.json"), `${JSON.stringify({ format: "edge-pruning/view-state", state: this.state }, null, 2)}\n`, "application/json"),
    };
    for (const [id, action] of Object.entries(actions)) get(id).addEventListener("click", action);
    get("load-state").addEventListener("change", async ({ target }) => {
      const file = target.files[0];
      if (!file) return;
      try {
        const content = JSON.parse(await file.text());
        if (content?.format !== "edge-pruning/view-state") throw new Error("expected a file that “This view as JSON” saved");
        this.state = checkedState(content.state, this.circuits);
        this.render();
        this.#say(`Loaded ${file.name}.`);
      } catch (error) {
        this.#say(`${file.name} could not be read: ${error.message}.`);
      }
      target.value = "";
    });
  }

  #say(words) {
    get("said").textContent = words;
  }

  /** Arrows move the slider by one step of its scale, but by at least one edge. */
  #nudge(event) {
    const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const size = this.#sizeAt(Number(get("size").value) + step * 5);
    this.set({ size: this.possible(step > 0 ? Math.max(size, this.scene.size + 1) : Math.min(size, this.scene.size - 1)) });
  }

  #key(event) {
    if (event.target.matches("input:not([type=range]), textarea, select") || event.ctrlKey || event.metaKey || event.altKey || get("help").open) {
      if (event.key === "Escape" && event.target.id === "search") this.set({ search: "" });
      return;
    }
    const { focus } = this.state;
    const act = {
      "/": () => get("search").focus(),
      "?": () => get("help").showModal(),
      Escape: () => {
        this.tooltip.hide();
        this.set({ focus: null, search: "" });
      },
      p: () => focus !== null && this.scene.graph.nodeIndex.has(focus) && this.pin(focus),
      f: () => this.picture.fit(),
      "+": () => this.picture.scaleBy(1.3),
      "-": () => this.picture.scaleBy(1 / 1.3),
      "]": () => this.set({ size: this.possible(Math.max(this.scene.size + 1, this.scene.size * 1.1)) }),
      "[": () => this.set({ size: this.possible(Math.min(this.scene.size - 1, this.scene.size / 1.1)) }),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  #sizeAt(position) {
    const most = this.circuits[this.state.circuit].rankingOf.size;
    return this.possible(Math.exp((Math.max(0, Math.min(STEPS, position)) / STEPS) * Math.log(most)));
  }

  hover(thing, event) {
    if (event.shiftKey && !get("tooltip").hidden) return;
    if (!thing) return void this.tooltip.hide();
    if (thing.edge) return this.tooltip.show(this.scene.nameOf(thing.edge), edgeFacts(this.scene, thing.edge), event);
    if (typeof thing.node === "string") return this.tooltip.show(thing.node.slice(6), [["kind", "a group of nodes"]], event);
    const { name } = this.scene.graph.nodes[thing.node];
    const label = this.state.labels[name];
    return this.tooltip.show(label ? `${name}: ${label}` : name, nodeFacts(this.scene, thing.node), event);
  }

  // --- showing -------------------------------------------------------------------------------------------------------

  render({ keepLayout = false } = {}) {
    const before = this.scene;
    this.scene = new Scene(this.circuits, this.state);
    if (before?.circuit !== this.scene.circuit) this.#newCircuit();
    if (!keepLayout || !this.layout) this.#layOut();
    this.picture.setNodes(this.#nodes(), this.#shared());
    this.picture.setEdges(this.scene.shown, this.scene.chosen, this.scene.circuit.scored);
    this.#sizes();
    this.#legend();
    if (!keepLayout) {
      this.panel.show(this.scene);
      this.heads.show(this.scene);
    }
    if (!this.dragging) this.showTable();
    this.saveHash();
  }

  #newCircuit() {
    const { circuit } = this.scene;
    this.layout = null;
    this.curves.show(circuit, circuit.scored ? circuit.rankingOf.size : 10);
    if (!circuit.scored) get("curves").hidden = true;
    document.querySelector(".slide").hidden = !circuit.scored;
    get("circuit").value = this.state.circuit;
    const others = this.circuits.map((other, i) => [i, other]).filter(([i, other]) => i !== this.state.circuit && sameGraph(other.graph, circuit.graph));
    fill(get("other"), [["", "nothing"], ...others.map(([i, other]) => [i, other.name])]);
    get("other").parentElement.hidden = others.length === 0;
    this.#left(circuit);
    for (const report of document.querySelectorAll("[data-report]")) report.hidden = Number(report.dataset.report) !== circuit.report;
  }

  /** What a large circuit's page leaves out. */
  #left({ rankingOf, ranking }) {
    const parts = [];
    if (rankingOf.size < ranking.ranked) parts.push(`This page contains only the strongest ${count(rankingOf.size)} of ${count(ranking.ranked)} ranked edges, so it shows circuits up to that size.`);
    if (ranking.held < ranking.size) parts.push(`The circuit as found has ${count(ranking.size)} edges; the page contains ${count(ranking.held)} of them.`);
    get("cut").textContent = parts.join(" ");
    get("cut").hidden = parts.length === 0;
  }

  #layOut() {
    const { folded } = this.scene;
    const key = JSON.stringify([this.state.circuit, folded, this.state.groups]);
    if (this.layout && key === this.layoutKey) return;
    this.layoutKey = key;
    this.layout = new Layout(this.scene.graph, folded, this.picture.root.clientWidth / this.picture.mostHeight);
    this.moved = this.#moved();
    this.picture.setLayout(this.layout, this.moved);
  }

  /** Where the nodes of a group stand: all in the middle of them. */
  #moved() {
    const moved = new Map();
    for (const { name, nodes } of this.state.groups) {
      const known = nodes.map((node) => this.scene.graph.nodeIndex.get(node)).filter((node) => node !== undefined);
      if (!known.length) continue;
      const mean = (axis) => known.reduce((sum, node) => sum + this.layout.boxes[node][axis], 0) / known.length;
      const place = { x: mean("x"), y: mean("y"), w: 40, h: 24 };
      moved.set(`group:${name}`, place);
      for (const node of known) moved.set(node, place);
    }
    return moved;
  }

  /** What to draw of each node that has an edge, or is pinned. */
  #nodes() {
    const { scene, state } = this;
    const { graph } = scene;
    const lit = scene.chosen ? scene.nodesOf(scene.chosen) : null;
    const found = new Map();
    graph.nodes.forEach((node, i) => {
      const { name, kind } = node;
      const end = kind === "embedding" || kind === "logits";
      const { entering, leaving, own } = scene.countsOf(i);
      if (this.moved.has(i) || !(end || own || leaving || state.pins.includes(name) || state.focus === name)) return;
      const label = labelOf(node);
      const seen = name in state.labels ? `${label} ${state.labels[name]}` : label; // a spoken name begins with what is seen
      found.set(i, {
        label, note: state.labels[name], labelled: name in state.labels,
        title: `${seen}${label === name ? "" : `, ${name}`}: ${entering} edges in, ${leaving} out`,
        ports: scene.other ? [] : scene.portsOf(i), pinned: state.pins.includes(name), focus: state.focus === name,
        muted: lit !== null && !lit.has(i) && !state.pins.includes(name) && state.focus !== name,
      });
    });
    for (const { name } of state.groups) {
      if (this.moved.has(`group:${name}`)) found.set(`group:${name}`, { label: name, title: `${name}, a group`, focus: state.focus === `group:${name}` });
    }
    return found;
  }

  /** Readers that several heads share and that are read. */
  #shared() {
    const { graph, counts, chosen } = this.scene;
    const lit = chosen && new Set(chosen.map(({ to }) => to));
    const found = new Map();
    graph.readers.forEach(({ nodes }, reader) => {
      if (nodes.length > 1 && counts.entering[reader]) found.set(reader, { muted: lit !== null && !lit.has(reader) });
    });
    return found;
  }

  #sizes() {
    const { scene } = this;
    const most = scene.circuit.rankingOf.size;
    get("size").value = (STEPS * Math.log(Math.max(1, scene.size))) / Math.log(Math.max(2, most));
    get("size").setAttribute("aria-valuetext", `${scene.size} edges`);
    get("size-number").value = scene.size;
    get("size-number").max = most;
    get("size-of").textContent = ` of ${count(scene.circuit.ranking.ranked)}`;
    get("as-found").setAttribute("aria-pressed", this.state.size === null);
    const total = scene.visible.length;
    const more = total > MOST_DRAWN && scene.shown.length === MOST_DRAWN ? "; at most 20,000 can be drawn" : "";
    get("shown").textContent = `${scene.chosen ? `${count(scene.chosen.length)} in focus, ` : ""}${count(scene.shown.length)} of ${count(total)} edges shown${more}`;
    const steps = [30, 100, 400, 1000, 3000, 10000, MOST_DRAWN].filter((step, i) => i < 3 || step < total * 3);
    fill(get("show"), steps.map((step) => [step, `${scene.circuit.scored ? "strongest" : "first"} ${count(step)}`]));
    get("show").value = this.state.show;
    this.#measured(this.curves.mark(scene.size));
    for (const id of ["search", "notes"]) if (document.activeElement !== get(id)) get(id).value = this.state[id];
    get("fold").checked = this.state.fold;
    get("other").value = this.state.other ?? "";
  }

  #measured(found) {
    const { circuit } = this.scene;
    const line = get("measured");
    line.classList.toggle("between", Boolean(found) && !found.measured);
    if (!found) {
      const [first, last] = [circuit.points.at(0), circuit.points.at(-1)].map((point) => point && count(point.edges));
      line.textContent = !first ? "Quality was not measured." : `Quality was measured only ${first === last ? `at ${first}` : `from ${first} to ${last}`} edges.`;
      return;
    }
    const loss = found.point[circuit.loss.name];
    const parts = [`${circuit.loss.short} ${number(loss)}${circuit.loss.unit ? ` ${circuit.loss.unit}` : ""}`];
    if (found.point.faithfulness != null) parts.push(`faithfulness ${percent(found.point.faithfulness)}`);
    if (found.point.accuracy != null) parts.push(`${circuit.accuracy} ${percent(found.point.accuracy)}`);
    const split = found.point.split ? ` on ${found.point.split} pairs` : "";
    line.textContent = found.measured ? `Measured${split}: ${parts.join(", ")}` : `≈ Interpolated between ${found.from.map(count).join(" and ")} edges${split}: ${parts.join(", ")}`;
  }

  /** What the colours mean, which also hides them; with two circuits, what both have. */
  #legend() {
    const { scene } = this;
    const counts = scene.kinds;
    const chips = Object.entries(KINDS).map(([kind, words]) => {
      const toggle = () => this.set({ hide: this.state.hide.includes(kind) ? this.state.hide.filter((k) => k !== kind) : [...this.state.hide, kind] });
      const colour = scene.other ? "plain" : kind;
      return h("button", { type: "button", class: `chip ${colour}`, "data-kind": kind, "aria-pressed": !this.state.hide.includes(kind), onclick: toggle }, h("i", {}), `${words} ${count(counts[kind])}`);
    });
    const groups = scene.other ? Object.entries(scene.groups).map(([group, n]) => h("span", { class: `chip ${group}` }, h("i", {}), `${groupWords(scene)[group]} ${count(n)}`)) : [];
    const focused = document.activeElement?.dataset?.kind;
    get("legend").replaceChildren(...groups, ...chips);
    if (focused) get("legend").querySelector(`[data-kind="${focused}"]`)?.focus();
  }
}

function fill(select, options) {
  const key = JSON.stringify(options);
  if (select.dataset.key === key) return;
  select.dataset.key = key;
  select.replaceChildren(...options.map(([value, words]) => h("option", { value }, words)));
}

/** The state after the number sign; null where there is none or it cannot be read. */
function fromHash() {
  try {
    return location.hash.length > 1 ? JSON.parse(decodeURIComponent(location.hash.slice(1))) : null;
  } catch {
    return null;
  }
}

/** Only what differs from the start is written. */
function toHash(state) {
  const start = startState();
  const changed = Object.fromEntries(Object.entries(state).filter(([key, value]) => JSON.stringify(value) !== JSON.stringify(start[key])));
  const hash = Object.keys(changed).length ? `#${encodeURIComponent(JSON.stringify(changed))}` : "";
  try {
    if (location.hash !== hash) history.replaceState(null, "", hash || location.pathname + location.search);
  } catch {
    // inside a notebook's frame there is no address to change
  }
}

new App(JSON.parse(get("data").textContent));
