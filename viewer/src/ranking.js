// A ranking of edges, and circuits cut from it: the strongest k, without what dangles.
//
// Dangling edges are those that no path from an embedding reaches, or that lead to no logits. Writers come in the order
// in which they compute, so one sweep up and one sweep down over the kept edges find them (edge_pruning/graph.py goes
// round until nothing changes; the result is the same, and tested to be).

/** Bytes of a base64 text. */
export function bytesOf(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

/** Numbers that were stored one byte plane after the other, the lowest first. */
export function fromPlanes(bytes, count, planes) {
  const numbers = new Uint32Array(count);
  for (let plane = 0; plane < planes; plane++) {
    for (let i = 0; i < count; i++) numbers[i] |= bytes[plane * count + i] << (8 * plane);
  }
  return numbers;
}

/** Edge numbers and scores, strongest first. Scores are the upper three bytes of 32-bit floats; null: there are none. */
export function unpackRanking({ count, id_planes: planes, ids, scores }, inflate) {
  const order = fromPlanes(inflate(bytesOf(ids)), count, planes);
  if (scores === null) return { order, scores: null };
  const bits = fromPlanes(inflate(bytesOf(scores)), count, 3);
  for (let i = 0; i < count; i++) bits[i] <<= 8;
  return { order, scores: new Float32Array(bits.buffer) };
}

/** Where the flags are 1, ascending. */
function indicesOf(flags) {
  const found = new Uint32Array(flags.length);
  let count = 0;
  for (let i = 0; i < flags.length; i++) {
    found[count] = i;
    count += flags[i];
  }
  return found.subarray(0, count);
}

export class Ranking {
  /** order: edge numbers, strongest first. scores: theirs, or null. */
  constructor(graph, order, scores) {
    Object.assign(this, { graph, order, scores });
    this.size = order.length;
    this.rankOf = new Map(); // edge number -> rank from 0
    for (let rank = 0; rank < order.length; rank++) this.rankOf.set(order[rank], rank);
    const sorted = Uint32Array.from(order).sort();
    this.ranks = Uint32Array.from(sorted, (edge) => this.rankOf.get(edge)); // in graph order, as are the next two
    this.from = new Uint32Array(sorted.length);
    this.to = new Uint32Array(sorted.length);
    this.edges = new Array(sorted.length); // by rank: what a scene shows of each
    let writer = 0;
    sorted.forEach((edge, i) => {
      while (graph.offset[writer + 1] <= edge) writer++;
      const [from, to, rank] = [writer, graph.readerOf(edge, writer), this.ranks[i]];
      this.from[i] = from;
      this.to[i] = to;
      this.edges[rank] = { edge, from, to, rank, score: scores?.[rank] ?? null, group: "" };
    });
  }

  /** Flags by rank, 1 for the strongest k. */
  top(k) {
    return new Uint8Array(this.size).fill(1, 0, Math.max(0, k));
  }

  /** Flags by rank of these edge numbers. */
  flags(edges) {
    const kept = new Uint8Array(this.size);
    for (const edge of edges) if (this.rankOf.has(edge)) kept[this.rankOf.get(edge)] = 1;
    return kept;
  }

  /** Ranks, ascending, of the kept edges (flags by rank) that lie on a path from an embedding to the logits. */
  connected(kept) {
    const reached = this.#reached(kept);
    const leading = this.#leading(kept);
    const found = new Uint8Array(this.size);
    for (let i = 0; i < this.size; i++) {
      const rank = this.ranks[i];
      found[rank] = kept[rank] & reached[this.from[i]] & leading[this.to[i]];
    }
    return indicesOf(found);
  }

  /** Which writers a path from an embedding reaches. */
  #reached(kept) {
    const { nodes, readers, writers } = this.graph;
    const read = new Uint8Array(readers.length);
    const reached = new Uint8Array(writers);
    let writer = -1;
    for (let i = 0; i < this.size; i++) {
      while (writer < this.from[i]) {
        writer++;
        reached[writer] = nodes[writer].kind === "embedding" || nodes[writer].reads.some((r) => read[r]) ? 1 : 0;
      }
      if (reached[writer] && kept[this.ranks[i]]) read[this.to[i]] = 1;
    }
    return reached;
  }

  /** Which readers a path leads on from to the logits. */
  #leading(kept) {
    const { nodes, readers } = this.graph;
    const leading = new Uint8Array(readers.length);
    leading[readers.length - 1] = 1;
    let i = this.size - 1;
    while (i >= 0) {
      const writer = this.from[i];
      let leads = false;
      for (; i >= 0 && this.from[i] === writer; i--) leads ||= Boolean(kept[this.ranks[i]] && leading[this.to[i]]);
      if (leads) for (const reader of nodes[writer].reads) leading[reader] = 1;
    }
    return leading;
  }
}
