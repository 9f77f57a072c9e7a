// Where nodes stand and how edges run. Layers go upward, heads from left to right, the MLPs form a spine in the middle.
//
// Layers without a node of the circuit are folded into a thin strip. An edge that passes other layers runs in a lane
// between two columns, beside the node that it leaves, so that all long edges of a node share a trunk; it turns only in
// the free space below the layer where it ends.

const BAR = 24;
const FOLD = 20;
const MARGIN = 46;

export class Layout {
  /** folded: per layer, whether it is folded away. aspect: width over height of the place where it is shown. */
  constructor(graph, folded, aspect = 1) {
    this.graph = graph;
    this.folded = folded;
    const shown = folded.filter((one) => !one).length;
    this.dense = shown > 12; // then heads and MLP of a layer stand almost level
    const digits = `${graph.layers - 1}.${graph.heads - 1}`.length;
    this.nodeHeight = this.dense ? 18 : 20;
    this.nodeWidth = Math.round(digits * (this.dense ? 7.2 : 6.2) + 12);
    this.row = this.dense ? (graph.grouped ? 48 : 44) : Math.min(108, Math.max(66, 760 / Math.max(1, shown))) + (graph.grouped ? 12 : 0);
    this.left = MARGIN;
    this.#stack();
    this.#spread(aspect * this.height, aspect < 0.7);
    this.boxes = graph.nodes.map((node) => this.#box(node));
  }

  /** Columns as wide as reads well, and wider where there is room. */
  #spread(room, narrow) {
    const { heads } = this.graph;
    const gap = narrow ? 8 : Math.min(44, Math.max(16, 420 / heads));
    const most = Math.max(gap, Math.min(narrow ? gap : 130, (room - MARGIN - 16) / (heads + 1) - this.nodeWidth));
    this.column = this.nodeWidth + most;
    this.spine = this.nodeWidth + 2 * Math.max(narrow ? 24 : 38, Math.min(most, 60));
    this.inner = heads * this.column + this.spine;
    this.width = this.inner + MARGIN + 16;
  }

  /** The top of every layer, from the logits down; folded neighbours share a strip. */
  #stack() {
    const { layers } = this.graph;
    this.tops = new Array(layers);
    this.folds = []; // { first, last, top }
    let y = BAR + 34;
    for (let layer = layers - 1; layer >= 0; layer--) {
      this.tops[layer] = y;
      if (!this.folded[layer]) {
        y += this.row;
      } else if (layer === 0 || !this.folded[layer - 1]) {
        const first = layer;
        const last = this.#endOfFold(layer);
        this.folds.push({ first, last, top: y });
        y += FOLD;
      }
    }
    this.bottom = y + 12;
    this.height = this.bottom + BAR;
  }

  #endOfFold(layer) {
    let last = layer;
    while (last + 1 < this.graph.layers && this.folded[last + 1]) last++;
    return last;
  }

  #box(node) {
    const { heads, parallel, embeddings, grouped } = this.graph;
    if (node.kind === "logits") return box(this.left + this.inner / 2, BAR / 2, this.inner, BAR);
    if (node.kind === "embedding") {
      const count = embeddings === "split" ? 2 : 1;
      const width = (this.inner - 16 * (count - 1)) / count;
      return box(this.left + width / 2 + (node.name === "pos" ? width + 16 : 0), this.bottom + BAR / 2, width, BAR);
    }
    const folded = this.folded[node.layer];
    const top = this.tops[node.layer];
    const below = parallel ? this.row / 2 : this.dense ? (grouped ? 22 : 16) : grouped ? 36 : 24;
    const y = folded ? top + FOLD / 2 : top + this.row - below;
    if (node.kind === "mlp") {
      const x = this.left + Math.floor((heads + 1) / 2) * this.column + this.spine / 2;
      return box(x, parallel || folded ? y : y - (this.dense ? 0.3 : 0.42) * this.row, this.nodeWidth + 6, folded ? 6 : this.nodeHeight);
    }
    const beyond = node.head >= Math.floor((heads + 1) / 2) ? this.spine : 0;
    return box(this.left + (node.head + 0.5) * this.column + beyond, y, this.nodeWidth, folded ? 6 : this.nodeHeight);
  }

  /** The bar below the heads that share a key-value head. */
  shared(reader) {
    const { nodes } = this.graph.readers[reader];
    const [first, last] = [this.boxes[nodes[0]], this.boxes[nodes.at(-1)]];
    const left = first.x - first.w / 2;
    return box((first.x + last.x) / 2, first.y + first.h / 2 + (this.dense ? 6 : 12), last.x + last.w / 2 - left, this.dense ? 4 : 7);
  }

  isShared(reader) {
    return this.graph.grouped && "kv".includes(this.graph.readers[reader].kind);
  }

  /** Where an edge enters a reader: queries at the left of a head, keys in the middle, values at the right. */
  port(reader, other) {
    const { kind, nodes } = this.graph.readers[reader];
    const at = this.boxes[nodes[0]];
    if (kind === "logits") return { x: clamp(other, at.x - at.w / 2 + 10, at.x + at.w / 2 - 10), y: at.y + at.h / 2 };
    if (this.isShared(reader)) {
      const bar = this.shared(reader);
      return { x: bar.x + (kind === "k" ? -0.25 : 0.25) * bar.w, y: bar.y + bar.h / 2 };
    }
    return { x: at.x + ({ q: -0.3, v: 0.3 }[kind] ?? 0) * at.w, y: at.y + at.h / 2 };
  }

  /** An edge as SVG path data. moved: places of nodes that are shown elsewhere, by node; one group's nodes share one. */
  path(from, to, moved) {
    const writer = this.graph.nodes[from];
    const target = this.graph.readers[to].nodes[0];
    if (moved.has(from) || moved.has(target)) return this.#bent(from, target, to, moved);
    const source = this.boxes[from];
    const y0 = source.y - source.h / 2;
    const end = this.port(to, source.x);
    const lane = this.#lane(from, to, end);
    if (lane === null) {
      const x0 = writer.kind === "embedding" ? clamp(end.x, source.x - source.w / 2 + 10, source.x + source.w / 2 - 10) : source.x;
      return curve(x0, y0, end.x, end.y);
    }
    const x0 = writer.kind === "embedding" ? clamp(lane, source.x - source.w / 2 + 10, source.x + source.w / 2 - 10) : source.x;
    const x1 = this.graph.readers[to].kind === "logits" ? lane : end.x;
    const turn = Math.min(0.5 * this.row, (y0 - end.y) / 2.2);
    return `M${n(x0)} ${n(y0)}C${n(x0)} ${n(y0 - 0.6 * turn)} ${n(lane)} ${n(y0 - 0.45 * turn)} ${n(lane)} ${n(y0 - turn)}` +
      `V${n(end.y + turn)}C${n(lane)} ${n(end.y + 0.45 * turn)} ${n(x1)} ${n(end.y + 0.6 * turn)} ${n(x1)} ${n(end.y)}`;
  }

  /** An edge from or to a group; null within one. */
  #bent(from, target, to, moved) {
    const a = moved.get(from) ?? this.boxes[from];
    const b = moved.get(target);
    if (a === b) return null;
    const end = b ? { x: b.x, y: b.y + b.h / 2 } : this.port(to, a.x);
    return curve(a.x, a.y - a.h / 2, end.x, end.y);
  }

  /** The x of the lane in which an edge passes other layers; null where it passes none. */
  #lane(from, to, end) {
    const writer = this.graph.nodes[from];
    const reader = this.graph.readers[to];
    const span = this.#rank(this.graph.nodes[reader.nodes[0]]) - this.#rank(writer);
    if (span <= 1) return null;
    const kindShift = { q: -2, k: -1, v: 1, mlp: 0, logits: 2 }[reader.kind] * 1.1;
    if (writer.kind === "embedding") {
      const target = this.graph.nodes[reader.nodes[0]];
      if (target.kind === "logits") return this.left + 14;
      const side = target.kind === "mlp" ? (target.layer % 2 ? 1 : -1) : reader.kind === "v" ? 1 : -1;
      return this.#beside(this.boxes[reader.nodes[0]], target, side, target.layer) + kindShift;
    }
    const toward = reader.kind === "logits" ? (writer.layer % 2 ? 1 : -1) : Math.sign(end.x - this.boxes[from].x) || (writer.layer % 2 ? 1 : -1);
    return this.#beside(this.boxes[from], writer, toward, writer.layer) + kindShift;
  }

  /** A lane at a side of a node's column; each layer has its own track in it. */
  #beside(at, node, side, layer) {
    const gap = node.kind === "mlp" ? (this.spine - this.nodeWidth - 6) / 2 : (this.column - this.nodeWidth) / 2;
    const track = ((layer * 3) % 7) / 7;
    return at.x + side * (at.w / 2 + (node.kind === "mlp" ? 8 : 5) + track * Math.max(2, gap - 8));
  }

  /** How many rows of shown nodes lie below: embeddings 0, then heads and MLP of every layer that is not folded. */
  #rank(node) {
    if (!this.ranks) {
      let rank = 1;
      this.ranks = this.folded.map((folded) => (folded ? rank : (rank += 2) - 2));
      this.top = rank;
    }
    if (node.kind === "embedding") return 0;
    if (node.kind === "logits") return this.top;
    return this.ranks[node.layer] + (node.kind === "mlp" && !this.graph.parallel ? 1 : 0);
  }
}

function box(x, y, w, h) {
  return { x, y, w, h };
}

function curve(x0, y0, x1, y1) {
  const c = 0.5 * (y0 - y1);
  return `M${n(x0)} ${n(y0)}C${n(x0)} ${n(y0 - c)} ${n(x1)} ${n(y1 + c)} ${n(x1)} ${n(y1)}`;
}

function n(value) {
  return Math.round(value * 10) / 10;
}

function clamp(value, low, high) {
  return Math.min(high, Math.max(low, value));
}

/** Width and opacity of the i-th strongest of some edges; the more there are, the finer the weak ones. */
export function stroke(i, edges, scored) {
  const strength = scored ? 1 - i / Math.max(1, edges - 1) : 0.5; // 1 for the strongest, 0 for the weakest that is shown
  const crowd = clamp(Math.log10(Math.max(edges, 1) / 20) / Math.log10(20), 0, 1); // 0 at 20 edges, 1 at 400
  const haze = clamp(Math.log10(edges / 400), 0, 1); // 1 at 4,000
  const [thin, thick] = [1.3 - 0.6 * crowd - 0.2 * haze, 4.2 - 1.6 * crowd - 0.4 * haze];
  const [faint, solid] = [0.6 - 0.42 * crowd - 0.12 * haze, 0.95 - 0.05 * crowd];
  const power = 1.5 + 2 * crowd + 6 * haze;
  return { width: thin + strength ** power * (thick - thin), opacity: faint + strength ** (power - 0.5) * (solid - faint) };
}
