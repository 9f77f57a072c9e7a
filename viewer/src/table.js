// The edges as a table that sorts; it lists what the picture shows, or what is in focus there.

import { count, h, link, number } from "./dom.js";
import { groupWords } from "./facts.js";
import { KINDS } from "./model.js";

const PAGE = 100;

export class Table {
  constructor(root, onedge) {
    this.root = root;
    this.onedge = onedge;
    this.order = { by: "rank", down: false };
    this.limit = PAGE;
  }

  show(scene) {
    this.scene = scene;
    this.limit = PAGE;
    this.#render();
  }

  #columns() {
    const { circuit, other } = this.scene;
    const lost = circuit.lost ?? {};
    const columns = [
      { key: "rank", words: "rank", value: (e) => e.rank, shown: (e) => count(e.rank + 1) },
      { key: "name", words: "edge", value: (e) => [e.from, e.to], shown: (e) => this.#name(e), row: true },
      { key: "kind", words: "kind", value: (e) => this.scene.kindOf(e), shown: (e) => KINDS[this.scene.kindOf(e)] },
    ];
    if (circuit.scored) columns.push({ key: "score", words: "score", value: (e) => -(e.score ?? -Infinity), shown: (e) => number(e.score) });
    if (Object.keys(lost).length) {
      const of = (e) => lost[this.scene.nameOf(e)];
      columns.push({ key: "lost", words: `${circuit.loss.short} increase without it`, value: (e) => -(of(e)?.loss ?? -Infinity), shown: (e) => (of(e) ? `${number(of(e).loss)} ${of(e).verdict}` : "–") });
    }
    if (circuit.seeds) {
      const of = (e) => circuit.seeds.counts[this.scene.nameOf(e)] ?? 0;
      columns.push({ key: "seeds", words: "seeds", value: (e) => -of(e), shown: (e) => `${of(e)} of ${circuit.seeds.of}` });
    }
    if (other) columns.push({ key: "group", words: "comparison", value: (e) => e.group, shown: (e) => groupWords(this.scene)[e.group] });
    return columns;
  }

  #name(edge) {
    const name = this.scene.nameOf(edge);
    return link(name, () => this.onedge(name), { "aria-pressed": this.scene.state.focus === name });
  }

  #render() {
    const columns = this.#columns();
    const edges = [...(this.scene.chosen ?? this.scene.visible)];
    const by = columns.find(({ key }) => key === this.order.by) ?? columns[0];
    edges.sort((a, b) => compare(by.value(a), by.value(b)) * (this.order.down ? -1 : 1));
    const head = h("tr", {}, columns.map((column) => this.#heading(column, by)));
    const rows = edges.slice(0, this.limit).map((edge) =>
      h("tr", { class: edge.group }, columns.map(({ shown, row }) => (row ? h("th", { scope: "row" }, shown(edge)) : h("td", {}, shown(edge))))));
    const more = edges.length > this.limit && h("p", { class: "note" }, `${count(this.limit)} of ${count(edges.length)} listed. `,
      link(`List ${count(Math.min(5 * PAGE, edges.length - this.limit))} more`, () => {
        this.limit += 5 * PAGE;
        this.#render();
      }));
    const none = edges.length === 0 && h("p", { class: "note" }, this.scene.connected.length ? "No edge matches the focus, the search and the kinds that are shown." : "At this size, no path leads from the input to the logits.");
    this.root.replaceChildren(h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Edges" }, h("table", {}, h("thead", {}, head), h("tbody", {}, rows))), more || "", none || "");
  }

  #heading(column, by) {
    const sorted = column === by ? (this.order.down ? "descending" : "ascending") : "none";
    const sort = () => {
      this.order = { by: column.key, down: column === by && !this.order.down };
      this.#render();
      this.root.querySelector(`[data-column="${column.key}"]`).focus();
    };
    const mark = column === by ? (this.order.down ? " ▾" : " ▴") : "";
    return h("th", { scope: "col", "aria-sort": sorted }, h("button", { type: "button", class: "sort", "data-column": column.key, onclick: sort }, column.words + mark));
  }
}

function compare(a, b) {
  if (Array.isArray(a)) return a[0] - b[0] || a[1] - b[1];
  return typeof a === "string" ? a.localeCompare(b) : a - b || 0;
}
