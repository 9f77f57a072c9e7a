// What is known of a node or an edge, in the panel beside the picture and under the pointer.

import { count, h, link, number } from "./dom.js";
import { KINDS } from "./model.js";

const TRUTH = { both: "hit: true and found", first: "extra: found, not true", second: "missed: true, not found" };

export function groupWords(scene) {
  if (scene.other?.kind === "truth") return TRUTH;
  const name = (circuit) => (circuit?.name.length > 30 ? `${circuit.name.slice(0, 29)}…` : circuit?.name);
  return { both: "in both", first: `only in ${name(scene.circuit)}`, second: `only in ${name(scene.other)}` };
}

/** Rows of [what, value] of an edge. */
export function edgeFacts(scene, edge) {
  const { circuit } = scene;
  const name = scene.nameOf(edge);
  const lost = circuit.lost?.[name];
  const rows = [["kind", KINDS[scene.kindOf(edge)]]];
  if (circuit.scored && edge.group !== "second") rows.push(["score", number(edge.score)], ["rank", `${count(edge.rank + 1)} of ${count(circuit.ranking.ranked)}`]);
  if (circuit.seeds) rows.push(["seeds with this edge", `${circuit.seeds.counts[name] ?? 0} of ${circuit.seeds.of}`]);
  if (lost) rows.push([`${circuit.loss.short} increase without it`, `${number(lost.loss)} ${circuit.loss.unit} (${lost.verdict})`]);
  if (scene.other) rows.push(["comparison", groupWords(scene)[edge.group]]);
  return rows;
}

export function edgesOfNode(scene, node) {
  const reads = new Set(scene.graph.nodes[node].reads);
  return { into: scene.visible.filter(({ to }) => reads.has(to)), out: scene.visible.filter(({ from }) => from === node) };
}

export function nodeFacts(scene, node) {
  const { name, kind } = scene.graph.nodes[node];
  const { into, out } = edgesOfNode(scene, node);
  const effect = scene.circuit.patterns?.heads.find((head) => head.node === name)?.effect;
  const rows = [["kind", kind === "head" ? "attention head" : kind === "mlp" ? "MLP" : kind === "logits" ? "the output" : "embedding"]];
  rows.push(["edges in", count(into.length)], ["edges out", count(out.length)]);
  if (effect !== undefined) rows.push(["direct effect", number(effect)]);
  return rows;
}

export function list(rows) {
  return h("dl", { class: "facts" }, rows.map(([what, value]) => h("div", {}, h("dt", {}, what), h("dd", {}, value))));
}

/** A note that follows the pointer. */
export class Tooltip {
  constructor(element, root) {
    this.element = element;
    this.root = root;
  }

  show(title, rows, event) {
    this.element.replaceChildren(h("b", {}, title), list(rows));
    this.element.hidden = false;
    const bounds = this.root.getBoundingClientRect();
    const at = event.clientX === undefined ? centre(event.target) : { x: event.clientX, y: event.clientY };
    const { offsetWidth: width, offsetHeight: height } = this.element;
    this.element.style.left = `${Math.max(4, Math.min(bounds.width - width - 4, at.x - bounds.left + 14))}px`;
    const below = at.y - bounds.top + 16;
    this.element.style.top = `${below + height > bounds.height ? Math.max(4, at.y - bounds.top - height - 12) : below}px`;
  }

  hide() {
    this.element.hidden = true;
  }
}

function centre(target) {
  const { left, top, width, height } = target.getBoundingClientRect();
  return { x: left + width / 2, y: top + height / 2 };
}

/** The name of a group to which no name is given. */
function freeName(groups) {
  const numbers = [...groups.keys(), groups.length].map((i) => `group ${i + 1}`);
  return numbers.find((name) => !groups.some((group) => group.name === name));
}

/** The panel: what is in focus, or a summary. on: { node, edge, pin, label, path, group, ungroup, clear } */
export class Panel {
  constructor(root, on) {
    this.root = root;
    this.on = on;
  }

  show(scene) {
    this.scene = scene;
    const { focus } = scene.state;
    const parts = focus === null ? this.#summary() : focus.includes("~") ? this.#path(focus) : focus.includes("->") ? this.#edge(focus) : this.#node(focus);
    const key = JSON.stringify([scene.state.circuit, scene.state.other, scene.state.size, scene.state.hide, focus, scene.state.pins, scene.state.labels, scene.state.groups]);
    if (key === this.key) return;
    this.key = key;
    this.root.replaceChildren(...parts.filter(Boolean));
  }

  #summary() {
    const { scene } = this;
    const nodes = scene.graph.nodes.filter((_, node) => scene.uses(node));
    const dropped = scene.other ? 0 : scene.kept - scene.connected.length;
    const words = `${count(scene.connected.length)} of the graph’s ${count(scene.circuit.graph.edges)} edges lie on a path from the input to the logits. They connect ${count(nodes.length)} nodes.`;
    const gone = dropped > 0 && h("p", { class: "note" }, `${count(dropped)} of the circuit’s ${count(scene.kept)} edges dangle: they lie on no path from the input to the logits, so they are left out.`);
    const help = h("p", { class: "note" }, "Click a node or an edge to see what it is connected to. Shift-click a second node to see the paths between the two.");
    return [h("h3", {}, scene.circuit.title ?? scene.circuit.name), this.#example(), h("p", {}, words), gone, help, this.#groups(), this.#pins()];
  }

  /** A pair, so that the picture says what is asked. */
  #example() {
    const { example } = this.scene.circuit;
    if (!example) return null;
    const not = example.wrong.length ? `, not ${example.wrong.join(" /").trim()}` : "";
    const asked = example.picture ? h("img", { class: "image", src: example.picture, alt: "An image" }) : h("q", {}, [example.clean].flat().join(""));
    return h("p", { class: "example" }, asked, ` → ${example.answer.join(" /").trim()}${not}`);
  }

  #node(name) {
    if (name.startsWith("group:")) return this.#group(name.slice(6));
    const { scene } = this;
    const node = scene.graph.nodeIndex.get(name);
    if (node === undefined) return this.#summary();
    const { into, out } = edgesOfNode(scene, node);
    const absent = into.length + out.length === 0 && h("p", { class: "note" }, "At this size, the circuit has no visible edge into or out of this node.");
    const pinned = scene.state.pins.includes(name);
    const label = h("input", { type: "text", value: scene.state.labels[name] ?? "", placeholder: "label", "aria-label": `Label of ${name}`, maxlength: 60, onchange: (event) => this.on.label(name, event.target.value) });
    return [
      h("h3", {}, h("code", {}, name), this.#clear()), list(nodeFacts(scene, node)), absent,
      h("p", { class: "actions" }, h("button", { type: "button", "aria-pressed": pinned, onclick: () => this.on.pin(name) }, pinned ? "Unpin" : "Pin"), label),
      this.#edges("Inputs", into), this.#edges("Outputs", out), this.#groups(), this.#pins(),
    ];
  }

  #edge(name) {
    const { scene } = this;
    const edge = scene.connected.find((one) => scene.nameOf(one) === name);
    const [from, to] = name.split("->");
    const ends = h("p", {}, "From ", link(from, () => this.on.node(from)), " to ", link(to, () => this.on.node(to.replace(/<.>$/, ""))));
    const facts = edge ? list(edgeFacts(scene, edge)) : h("p", { class: "note" }, "At this size, the circuit does not contain this edge.");
    return [h("h3", {}, h("code", {}, name), this.#clear()), facts, ends];
  }

  #path(focus) {
    const [one, other] = focus.split("~");
    const edges = this.scene.chosen ?? [];
    return [
      h("h3", {}, "Paths between ", h("code", {}, one), " and ", h("code", {}, other), this.#clear()),
      edges.length ? this.#edges("Edges on these paths", edges) : h("p", { class: "note" }, "There is no path between them at this size."),
    ];
  }

  #group(name) {
    const group = this.scene.state.groups.find((one) => one.name === name);
    if (!group) return this.#summary();
    return [
      h("h3", {}, name, this.#clear()),
      h("p", {}, group.nodes.map((node, i) => [i ? ", " : "", link(node, () => this.on.node(node))])),
      h("p", { class: "actions" }, h("button", { type: "button", onclick: () => this.on.ungroup(name) }, "Ungroup")),
    ];
  }

  #edges(title, edges) {
    if (!edges.length) return null;
    const shown = edges.slice(0, 40).map((edge) => {
      const name = this.scene.nameOf(edge);
      return h("li", { class: `kind-${edge.group || this.scene.kindOf(edge)}` }, link(name, () => this.on.edge(name)), h("span", { class: "value" }, edge.score === null ? "" : number(edge.score)));
    });
    const more = edges.length > 40 && h("p", { class: "note" }, `and ${count(edges.length - 40)} more, in the table`);
    return h("div", {}, h("h4", {}, `${title} (${count(edges.length)})`), h("ol", { class: "edges" }, shown), more);
  }

  #pins() {
    const { pins } = this.scene.state;
    if (!pins.length) return null;
    const usual = freeName(this.scene.state.groups);
    const name = h("input", { type: "text", placeholder: usual, "aria-label": "Name for a group of the pinned nodes", maxlength: 40 });
    const make = h("button", { type: "button", onclick: () => this.on.group(name.value.trim() || usual, pins) }, "Group");
    return h("div", {}, h("h4", {}, "Pinned"), h("p", {}, pins.map((pin, i) => [i ? ", " : "", link(pin, () => this.on.node(pin))])), pins.length > 1 && h("p", { class: "actions" }, name, make));
  }

  #groups() {
    const { groups } = this.scene.state;
    if (!groups.length) return null;
    return h("div", {}, h("h4", {}, "Groups"), h("p", {}, groups.map(({ name }, i) => [i ? ", " : "", link(name, () => this.on.node(`group:${name}`))])));
  }

  #clear() {
    return h("button", { type: "button", class: "clear", "aria-label": "Clear the focus", onclick: () => this.on.clear() }, "×");
  }
}
