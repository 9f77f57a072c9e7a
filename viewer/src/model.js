// What is looked at: the state that a link carries, and what follows from it (the cut, the edges shown, what is muted).

import { Graph } from "./graph.js";
import { around, between, searched } from "./paths.js";
import { Ranking, fromPlanes, bytesOf, unpackRanking } from "./ranking.js";

export const KINDS = { q: "queries", k: "keys", v: "values", mlp: "into an MLP", logits: "into the logits" };
export const MOST_DRAWN = 20000;
const FIRST_SHOWN = 400;

export function startState() {
  return {
    circuit: 0, other: null, size: null, show: FIRST_SHOWN, hide: [], search: "", focus: null, pins: [], labels: {},
    groups: [], notes: "", fold: true, head: null, pair: 0,
  };
}

/** The values of a state as read from a link or a file, each checked; what is wrong or unknown is left out. */
export function checkedState(given, circuits) {
  const state = startState();
  const index = (value) => Number.isInteger(value) && value >= 0 && value < circuits.length;
  const name = (value) => typeof value === "string" && value.length < 200;
  const tests = {
    circuit: (v) => index(v) && circuits[v].kind === "found",
    other: (v) => v === null || index(v),
    size: (v) => v === null || (Number.isInteger(v) && v >= 0),
    show: (v) => Number.isInteger(v) && v > 0 && v <= MOST_DRAWN,
    hide: (v) => Array.isArray(v) && v.every((kind) => kind in KINDS),
    search: name,
    focus: (v) => v === null || name(v),
    head: (v) => v === null || name(v),
    pair: (v) => Number.isInteger(v) && v >= 0,
    pins: (v) => Array.isArray(v) && v.every(name),
    labels: (v) => isPlain(v) && Object.values(v).every(name),
    groups: (v) => Array.isArray(v) && v.every((g) => isPlain(g) && name(g.name) && Array.isArray(g.nodes) && g.nodes.every(name)),
    notes: (v) => typeof v === "string" && v.length < 20000,
    fold: (v) => typeof v === "boolean",
  };
  if (!isPlain(given)) return state;
  for (const key of Object.keys(tests)) if (key in given && tests[key](given[key])) state[key] = given[key];
  return state;
}

function isPlain(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A circuit of the page with its graph and ranking, unpacked when it is first looked at. */
export class Shown {
  #ranking = null;

  constructor(content, inflate) {
    Object.assign(this, content);
    this.inflate = inflate;
    this.size = content.ranking.size;
    this.scored = content.ranking.scores !== null;
    this.graphOf = new Graph(content.graph);
  }

  get rankingOf() {
    if (!this.#ranking) {
      const { order, scores } = unpackRanking(this.ranking, this.inflate);
      this.#ranking = new Ranking(this.graphOf, order, scores);
    }
    return this.#ranking;
  }

  /** Flags by rank: the circuit as it was found (size null), or the strongest `size` edges. */
  kept(size) {
    const { found } = this.ranking;
    if (size !== null) return this.rankingOf.top(size);
    if (found === null) return this.rankingOf.top(this.size);
    return this.rankingOf.flags(fromPlanes(this.inflate(bytesOf(found.ids)), found.count, found.id_planes));
  }
}

/** Everything that a state shows. Edges are { edge, from, to, rank, score, group }, the strongest first. */
export class Scene {
  constructor(circuits, state) {
    this.state = state;
    this.circuit = circuits[state.circuit];
    this.graph = this.circuit.graphOf;
    const other = state.other === null ? null : circuits[state.other];
    this.other = other && sameGraph(other.graph, this.circuit.graph) ? other : null;
    this.size = state.size === null ? this.circuit.size : Math.min(state.size, this.circuit.rankingOf.size);
    this.kept = state.size === null ? this.circuit.ranking.held : this.size; // edges before dangling ones are left out
    this.connected = this.#cut();
    const hidden = new Set(state.hide);
    this.visible = hidden.size ? this.connected.filter((edge) => !hidden.has(this.kindOf(edge))) : this.connected;
    this.shown = this.visible.slice(0, state.show);
    this.chosen = this.#chosen();
    this.counts = this.#counted(this.visible);
  }

  /** How many of these edges leave each writer, and how many enter each reader. */
  #counted(edges) {
    const counts = { leaving: new Uint32Array(this.graph.nodes.length), entering: new Uint32Array(this.graph.readers.length) };
    for (const { from, to } of edges) {
      counts.leaving[from]++;
      counts.entering[to]++;
    }
    return counts;
  }

  /** Of a node: edges that leave it, that enter it, and that enter it alone (not a reader that several heads share). */
  countsOf(node) {
    const { leaving, entering } = this.counts;
    const { readers, nodes } = this.graph;
    const found = { leaving: leaving[node], entering: 0, own: 0 };
    for (const reader of nodes[node].reads) {
      found.entering += entering[reader];
      if (readers[reader].nodes.length === 1) found.own += entering[reader];
    }
    return found;
  }

  /** Which of a head's own inputs are read. */
  portsOf(node) {
    const { readers, nodes } = this.graph;
    const read = nodes[node].reads.filter((reader) => this.counts.entering[reader] && readers[reader].nodes.length === 1);
    return read.map((reader) => readers[reader].kind).filter((kind) => "qkv".includes(kind));
  }

  /** Whether an edge of the circuit begins at a node, or ends at it alone. */
  uses(node) {
    const { leaving, own } = this.countsOf(node);
    return leaving + own > 0;
  }

  /** How many edges are of each kind, those of hidden kinds too. */
  get kinds() {
    const { entering } = this.visible === this.connected ? this.counts : this.#counted(this.connected);
    const found = Object.fromEntries(Object.keys(KINDS).map((kind) => [kind, 0]));
    entering.forEach((n, reader) => (found[this.graph.readers[reader].kind] += n));
    return found;
  }

  kindOf(edge) {
    return this.graph.readers[edge.to].kind;
  }

  nameOf(edge) {
    return `${this.graph.nodes[edge.from].name}->${this.graph.readers[edge.to].name}`;
  }

  #cut() {
    const own = edgesOf(this.circuit, this.state.size);
    if (!this.other) return own;
    const theirs = edgesOf(this.other, this.other.kind === "truth" || !this.other.scored ? null : this.state.size);
    const numbers = new Set(theirs.map(({ edge }) => edge));
    const mine = new Set(own.map(({ edge }) => edge));
    const rest = theirs.filter(({ edge }) => !mine.has(edge)).map((edge) => ({ ...edge, group: "second" }));
    return this.#merged(own.map((edge) => ({ ...edge, group: numbers.has(edge.edge) ? "both" : "first" })), rest);
  }

  /** Both lists by their place in their own ranking. */
  #merged(own, rest) {
    const place = (list) => list.map((edge, i) => [i / Math.max(1, list.length), edge]);
    return [...place(own), ...place(rest)].sort((a, b) => a[0] - b[0]).map(([, edge]) => edge);
  }

  get groups() {
    const counts = { both: 0, first: 0, second: 0 };
    for (const edge of this.connected) counts[edge.group]++;
    return counts;
  }

  /** The edges in focus, or null if nothing is: what was clicked, and what was searched for. */
  #chosen() {
    const { focus, search } = this.state;
    let found = null;
    if (focus !== null) found = this.#focused(focus);
    const matches = searched(search);
    if (matches) {
      found = (found ?? this.visible).filter((edge) => {
        const label = (node) => this.state.labels[this.graph.nodes[node].name]?.toLowerCase() ?? "";
        const { name, nodes } = this.graph.readers[edge.to];
        const labelled = label(edge.from).includes(search.toLowerCase()) || label(nodes[0]).includes(search.toLowerCase());
        return labelled || matches(this.graph.nodes[edge.from].name, name);
      });
    }
    return found && found.slice(0, MOST_DRAWN);
  }

  #focused(focus) {
    const { nodeIndex } = this.graph;
    if (focus.includes("~")) {
      const [one, other] = focus.split("~").map((name) => nodeIndex.get(name));
      return one === undefined || other === undefined ? null : between(this.graph, this.visible, one, other);
    }
    if (focus.includes("->")) return this.visible.filter((edge) => this.nameOf(edge) === focus);
    const group = this.state.groups.find(({ name }) => focus === `group:${name}`);
    if (group) {
      const seen = new Set(group.nodes.flatMap((name) => (nodeIndex.has(name) ? around(this.graph, this.visible, nodeIndex.get(name)) : [])));
      return this.visible.filter((edge) => seen.has(edge));
    }
    return nodeIndex.has(focus) ? around(this.graph, this.visible, nodeIndex.get(focus)) : null;
  }

  /** Nodes with an edge among these. */
  nodesOf(edges) {
    const found = new Set();
    for (const edge of edges) {
      found.add(edge.from);
      const { nodes } = this.graph.readers[edge.to];
      if (nodes.length === 1) found.add(nodes[0]);
    }
    return found;
  }

  /** Per layer, whether it is folded away: if no edge enters or leaves it, and folding is on. */
  get folded() {
    const used = new Array(this.graph.layers).fill(false);
    this.graph.nodes.forEach(({ layer }, node) => {
      const { leaving, entering } = this.countsOf(node);
      if (leaving + entering && layer in used) used[layer] = true;
    });
    return used.map((any) => this.state.fold && !any);
  }
}

export function sameGraph(a, b) {
  return JSON.stringify([a.shape, a.embeddings, a.kv]) === JSON.stringify([b.shape, b.embeddings, b.kv]);
}

function edgesOf(circuit, size) {
  const ranking = circuit.rankingOf;
  return Array.from(ranking.connected(circuit.kept(size)), (rank) => ranking.edges[rank]);
}
