// The computation graph by names and order, as edge_pruning/graph.py has it: which edges exist, and what feeds what.
//
// A writer's edges go to all readers from a first one on, so edge number e of writer w is offset[w] + (r - first[w]).

export class Graph {
  constructor({ shape, embeddings, kv }) {
    const { layers, heads, kv_heads: kvHeads, parallel } = shape;
    Object.assign(this, { layers, heads, parallel, embeddings, kv });
    this.kvReaders = kv === "kv" ? kvHeads : heads;
    this.grouped = this.kvReaders < heads;
    this.nodes = []; // writers in order, `logits` last: { name, kind, layer, head, reads: [reader, ...] }
    this.readers = []; // { name, kind, node: the nodes that it is an input of }
    this.#addEmbeddings();
    for (let layer = 0; layer < layers; layer++) this.#addLayer(layer);
    this.readers.push({ name: "logits", kind: "logits", nodes: [this.nodes.length] });
    this.writers = this.nodes.length;
    this.logits = this.writers;
    this.nodes.push({ name: "logits", kind: "logits", layer: layers, reads: [this.readers.length - 1] });
    this.#countEdges();
    this.nodeIndex = new Map(this.nodes.map((node, i) => [node.name, i]));
    this.readerIndex = new Map(this.readers.map((reader, i) => [reader.name, i]));
  }

  #addEmbeddings() {
    for (const name of this.embeddings === "split" ? ["tok", "pos"] : ["input"]) {
      this.nodes.push({ name, kind: "embedding", layer: -1, reads: [], first: 0 });
    }
  }

  #addLayer(layer) {
    const start = this.readers.length;
    const group = this.heads / this.kvReaders;
    const firstHead = this.nodes.length;
    const owners = (i) => Array.from({ length: group }, (_, j) => firstHead + i * group + j);
    for (let h = 0; h < this.heads; h++) this.readers.push({ name: `a${layer}.h${h}<q>`, kind: "q", nodes: [firstHead + h] });
    for (const kind of ["k", "v"]) {
      for (let i = 0; i < this.kvReaders; i++) this.readers.push({ name: `a${layer}.h${i}<${kind}>`, kind, nodes: owners(i) });
    }
    const mlp = this.readers.length;
    this.readers.push({ name: `m${layer}`, kind: "mlp", nodes: [firstHead + this.heads] });
    for (let h = 0; h < this.heads; h++) {
      const k = start + this.heads + Math.floor(h / group);
      const reads = [start + h, k, k + this.kvReaders];
      this.nodes.push({ name: `a${layer}.h${h}`, kind: "head", layer, head: h, reads, first: this.parallel ? mlp + 1 : mlp });
    }
    this.nodes.push({ name: `m${layer}`, kind: "mlp", layer, reads: [mlp], first: mlp + 1 });
  }

  #countEdges() {
    this.offset = new Uint32Array(this.writers + 1);
    for (let w = 0; w < this.writers; w++) this.offset[w + 1] = this.offset[w] + this.readers.length - this.nodes[w].first;
    this.edges = this.offset[this.writers];
  }

  /** The writer of an edge, by halving. */
  writerOf(edge) {
    let low = 0;
    let high = this.writers;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (this.offset[middle] <= edge) low = middle;
      else high = middle;
    }
    return low;
  }

  readerOf(edge, writer = this.writerOf(edge)) {
    return this.nodes[writer].first + edge - this.offset[writer];
  }

  edgeName(edge) {
    const writer = this.writerOf(edge);
    return `${this.nodes[writer].name}->${this.readers[this.readerOf(edge, writer)].name}`;
  }

  /** The number of a named edge; -1 where there is none. */
  edgeNumber(name) {
    const [from, to] = name.split("->");
    const writer = this.nodeIndex.get(from);
    const reader = this.readerIndex.get(to);
    if (writer === undefined || reader === undefined || writer >= this.writers || reader < this.nodes[writer].first) return -1;
    return this.offset[writer] + reader - this.nodes[writer].first;
  }
}
