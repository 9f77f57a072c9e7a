// What heads do: how much each writes towards the answer, and where it looks, in the model, in the circuit and on the
// corrupted prompt. Positions are the tokens of a text, or the patches of an image behind its class token.

import { h, number } from "./dom.js";
import { bytesOf } from "./ranking.js";

const RUNS = { model: "in the model", circuit: "in the circuit", corrupted: "on the corrupted" };

/**
 * Attention weights as they were stored: one byte each, head after head, run after run, pair after pair, row after row.
 * A row of a text holds the positions up to the query, a row of an image all positions.
 */
export class Patterns {
  constructor(content, inflate) {
    Object.assign(this, content);
    this.bytes = inflate(bytesOf(content.weights));
    this.starts = [];
    let start = 0;
    for (const { clean, images } of this.pairs) {
      this.starts.push(start);
      start += images ? this.queries(this.starts.length - 1) * clean.length : (clean.length * (clean.length + 1)) / 2;
    }
    this.block = start;
  }

  /** How many positions have a row, from the first on. */
  queries(pair) {
    const { clean, images } = this.pairs[pair];
    return images ? Math.min(images.queries, clean.length) : clean.length;
  }

  /** The weights of one query position, 0 to 1, over the positions that it sees. */
  row(head, run, pair, query) {
    const { clean, images } = this.pairs[pair];
    const [before, width] = images ? [query * clean.length, clean.length] : [(query * (query + 1)) / 2, query + 1];
    const start = (head * this.runs.length + this.runs.indexOf(run)) * this.block + this.starts[pair] + before;
    return Array.from(this.bytes.subarray(start, start + width), (byte) => byte / 255);
  }
}

const LOOKING = {
  text: "The stronger a token’s colour, the more the marked token attends to it. Click another token to mark it, or a row of a square. Each row of a square is a token that attends; its columns are the tokens that it attends to.",
  images: "The stronger a patch’s colour, the more the marked position attends to it. The class token, where the answer is read, is marked until you click a patch.",
};

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
    const { images, answer, wrong, position } = patterns.pairs[pair];
    const choice = h("select", { "aria-label": "Pair", onchange: (event) => this.on.pair(Number(event.target.value)) },
      patterns.pairs.map((p, i) => h("option", { value: i, selected: i === pair }, `${i + 1}: ${titleOf(p)}`)));
    const facts = `answer ${answer.join(" /")}${wrong.length ? `, not ${wrong.join(" /")}` : ""}; direct effect on this pair ${number(effects[pair])}`;
    this.panels = patterns.runs.map((run) => this.#panel(patterns, head, run, pair));
    this.#look(patterns, head, pair, position);
    return h("div", { class: "detail" },
      h("h3", {}, "Attention of ", h("code", {}, node)), h("p", {}, choice), h("p", { class: "note" }, facts),
      h("p", { class: "note" }, images ? LOOKING.images : LOOKING.text),
      h("div", { class: "runs" }, this.panels.map(({ element }) => element)));
  }

  #panel(patterns, head, run, pair) {
    const side = run === "corrupted" ? "corrupted" : "clean";
    const tokens = patterns.pairs[pair][side];
    const { images } = patterns.pairs[pair];
    const patches = images ? images.grid[0] * images.grid[1] : 0;
    const special = tokens.length - patches;
    const look = (i) => () => this.#look(patterns, head, pair, i);
    const buttons = tokens.map((token, i) => (images && i >= special
      ? h("button", { type: "button", class: "patch", "aria-label": token, disabled: i >= patterns.queries(pair), onclick: look(i) })
      : h("button", { type: "button", class: "token", disabled: i >= patterns.queries(pair), onclick: look(i) }, visible(token))));
    const said = h("p", { class: "note", "aria-live": "off" });
    const seen = images ? overImage(images, images.pictures[side === "clean" ? 0 : 1], buttons.slice(special)) : this.#square(patterns, head, run, pair);
    const element = h("div", { class: "run" }, h("h4", {}, runName(run, images)), seen, h("p", { class: "tokens" }, images ? buttons.slice(0, special) : buttons), said);
    return { run, element, buttons, said, tokens };
  }

  /** The whole pattern: a row per query, a column per key. */
  #square(patterns, head, run, pair) {
    const size = patterns.pairs[pair].clean.length;
    const canvas = h("canvas", { width: size, height: size, class: "pattern", role: "img", "aria-label": `Attention pattern ${runName(run)}` });
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
        button.title = i < weights.length ? `${(100 * weights[i]).toFixed(0)} %` : "after the marked token";
      });
      const best = weights.map((weight, i) => [weight, i]).sort((a, b) => b[0] - a[0]).slice(0, 3).filter(([weight]) => weight >= 0.05);
      said.textContent = `${visible(tokens[query])} → ${best.map(([weight, i]) => `${visible(tokens[i])} ${(100 * weight).toFixed(0)} %`).join(", ")}`;
    }
  }
}

/** An image with a button over each of its patches. */
function overImage({ grid: [, columns] }, picture, patches) {
  const cells = h("div", { class: "cells" }, patches);
  cells.style.gridTemplateColumns = `repeat(${columns}, 1fr)`;
  return h("div", { class: "patches" }, h("img", { src: picture, alt: "The image of this pair" }), cells);
}

function runName(run, images) {
  return run === "corrupted" ? `${RUNS[run]} ${images ? "image" : "prompt"}` : RUNS[run];
}

/** What a list calls a pair. */
function titleOf({ clean, images, answer, wrong }) {
  return images ? `${answer.join(" / ")}${wrong.length ? ` against ${wrong.join(" / ")}` : ""}` : clean.join("").slice(0, 70);
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
