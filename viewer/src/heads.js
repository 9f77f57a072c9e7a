// What heads do: how much each writes towards the answer, and where it looks, in the model, in the circuit and on the
// corrupted prompt.

import { h, number } from "./dom.js";
import { bytesOf } from "./ranking.js";

const RUNS = { model: "in the model", circuit: "in the circuit", corrupted: "on the corrupted prompt" };

/** Attention weights as they were stored: one byte each, head after head, run after run, pair after pair, row after row. */
export class Patterns {
  constructor(content, inflate) {
    Object.assign(this, content);
    this.bytes = inflate(bytesOf(content.weights));
    this.starts = [];
    let start = 0;
    for (const { clean } of this.pairs) {
      this.starts.push(start);
      start += (clean.length * (clean.length + 1)) / 2;
    }
    this.block = start;
  }

  /** The weights of one query position, 0 to 1, over positions up to it. */
  row(head, run, pair, query) {
    const start = (head * this.runs.length + this.runs.indexOf(run)) * this.block + this.starts[pair] + (query * (query + 1)) / 2;
    return Array.from(this.bytes.subarray(start, start + query + 1), (byte) => byte / 255);
  }
}

export class Heads {
  /** on: { head(name), pair(number) } */
  constructor(root, on, inflate) {
    Object.assign(this, { root, on, inflate, query: null, loaded: new Map() });
  }

  show(scene) {
    const { circuit, state } = scene;
    this.root.hidden = !circuit.patterns;
    if (!circuit.patterns) return;
    if (!this.loaded.has(circuit)) this.loaded.set(circuit, new Patterns(circuit.patterns, this.inflate));
    const key = JSON.stringify([state.circuit, state.head, state.pair, state.focus]);
    if (key === this.key) return;
    this.key = key;
    this.query = null;
    this.#render(this.loaded.get(circuit), state);
  }

  #render(patterns, state) {
    const wanted = state.head ?? state.focus;
    const known = patterns.heads.findIndex(({ node }) => node === wanted);
    const head = known >= 0 ? known : byEffect(patterns)[0];
    const pair = Math.min(state.pair, patterns.pairs.length - 1);
    const scroll = this.root.querySelector(".effects")?.scrollTop ?? 0;
    this.root.replaceChildren(
      h("h2", {}, "What the heads do"),
      h("p", { class: "note" }, patterns.definition),
      h("div", { class: "heads" }, this.#effects(patterns, head), this.#detail(patterns, head, pair)),
    );
    this.root.querySelector(".effects").scrollTop = scroll;
  }

  /** The heads by their direct effect, as bars around 0, the largest first. */
  #effects(patterns, chosen) {
    const most = Math.max(1e-9, ...patterns.heads.map(({ effect }) => Math.abs(effect ?? 0)));
    const rows = byEffect(patterns).map((i) => {
      const { node, effect } = patterns.heads[i];
      const share = (50 * Math.abs(effect ?? 0)) / most;
      const bar = h("span", { class: effect < 0 ? "bar against" : "bar" });
      bar.style.width = `${share}%`;
      bar.style.left = effect < 0 ? `${50 - share}%` : "50%";
      return h("li", {}, h("button", { type: "button", "aria-pressed": i === chosen, onclick: () => this.on.head(node) },
        h("code", {}, node), h("span", { class: "track" }, bar), h("span", { class: "value" }, number(effect))));
    });
    return h("div", {}, h("h3", {}, "Direct effect on the answer"), h("ol", { class: "effects" }, rows));
  }

  #detail(patterns, head, pair) {
    const { node, effect_by_pair: effects } = patterns.heads[head];
    const { clean, answer, wrong, position } = patterns.pairs[pair];
    const choice = h("select", { "aria-label": "Pair", onchange: (event) => this.on.pair(Number(event.target.value)) },
      patterns.pairs.map((p, i) => h("option", { value: i, selected: i === pair }, `${i + 1}: ${p.clean.join("").slice(0, 70)}`)));
    const facts = `answer ${answer.join(" /")}${wrong.length ? `, not ${wrong.join(" /")}` : ""}; direct effect here ${number(effects[pair])}`;
    this.panels = patterns.runs.map((run) => this.#panel(patterns, head, run, pair));
    this.#look(patterns, head, pair, position);
    return h("div", { class: "detail" },
      h("h3", {}, h("code", {}, node), " looks at"), h("p", {}, choice), h("p", { class: "note" }, facts),
      h("p", { class: "note" }, "Each token is shaded by how much the marked one attends to it. Choose another token, or a row of a square: rows are tokens that attend, columns what they attend to."),
      h("div", { class: "runs" }, this.panels.map(({ element }) => element)));
  }

  #panel(patterns, head, run, pair) {
    const side = run === "corrupted" ? "corrupted" : "clean";
    const tokens = patterns.pairs[pair][side];
    const buttons = tokens.map((token, i) => h("button", { type: "button", class: "token", onclick: () => this.#look(patterns, head, pair, i) }, visible(token)));
    const square = this.#square(patterns, head, run, pair);
    const said = h("p", { class: "note", "aria-live": "off" });
    const element = h("div", { class: "run" }, h("h4", {}, RUNS[run]), square, h("p", { class: "tokens" }, buttons), said);
    return { run, element, buttons, said, tokens };
  }

  /** The whole pattern: a row per query, a column per key. */
  #square(patterns, head, run, pair) {
    const size = patterns.pairs[pair].clean.length;
    const canvas = h("canvas", { width: size, height: size, class: "pattern", role: "img", "aria-label": `Attention pattern ${RUNS[run]}` });
    const context = canvas.getContext("2d");
    const image = context.createImageData(size, size);
    for (let query = 0; query < size; query++) {
      patterns.row(head, run, pair, query).forEach((weight, column) => {
        image.data.set([0, 114, 178, Math.round(255 * weight ** 0.7)], 4 * (query * size + column));
      });
    }
    context.putImageData(image, 0, 0);
    canvas.addEventListener("click", (event) => this.#look(patterns, head, pair, Math.min(size - 1, Math.floor((event.offsetY / canvas.clientHeight) * size))));
    return canvas;
  }

  /** Shade the tokens by the attention of one query position. */
  #look(patterns, head, pair, query) {
    for (const { run, buttons, said, tokens } of this.panels) {
      const weights = patterns.row(head, run, pair, query);
      buttons.forEach((button, i) => {
        button.style.setProperty("--weight", weights[i] ?? 0);
        button.classList.toggle("query", i === query);
        button.setAttribute("aria-pressed", i === query);
        button.title = i <= query ? `${(100 * weights[i]).toFixed(0)} %` : "later";
      });
      const best = weights.map((weight, i) => [weight, i]).sort((a, b) => b[0] - a[0]).slice(0, 3).filter(([weight]) => weight >= 0.05);
      said.textContent = `${visible(tokens[query])} → ${best.map(([weight, i]) => `${visible(tokens[i])} ${(100 * weight).toFixed(0)} %`).join(", ")}`;
    }
  }
}

/** Places of the heads, the largest direct effect first. */
function byEffect({ heads }) {
  const size = (i) => Math.abs(heads[i].effect ?? 0);
  return heads.map((_, i) => i).sort((a, b) => size(b) - size(a));
}

/** White space as signs, so that a token that is one can be seen. */
function visible(token) {
  return token.replace(/\n/g, "⏎").replace(/\t/g, "⇥").replace(/^ $/, "␣") || "∅";
}
