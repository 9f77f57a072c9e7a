// Which edges belong to what is asked for: a node's inputs and outputs, the paths between two nodes, a search.
//
// Edges are objects { from: node, to: reader, ... } of one graph; every answer is a filter on them.

/** Edges into and out of a node. */
export function around(graph, edges, node) {
  const reads = new Set(graph.nodes[node].reads);
  return edges.filter((edge) => edge.from === node || reads.has(edge.to));
}

/** Edges on any path from one node to another, whichever of the two comes first. */
export function between(graph, edges, one, other) {
  const [start, end] = one < other ? [one, other] : [other, one];
  const sorted = [...edges].sort((a, b) => a.from - b.from || a.to - b.to);
  const ahead = new Set([start]);
  for (const edge of sorted) if (ahead.has(edge.from)) for (const node of graph.readers[edge.to].nodes) ahead.add(node);
  const back = new Set([end]);
  for (const edge of sorted.reverse()) if (graph.readers[edge.to].nodes.some((node) => back.has(node))) back.add(edge.from);
  return edges.filter((edge) => ahead.has(edge.from) && back.has(edge.from) && graph.readers[edge.to].nodes.some((n) => back.has(n)));
}

/** `a5` finds what touches layer 5's heads, `m3->` what leaves m3, `->logits` what enters the logits, `<q>` all queries. */
export function searched(text) {
  const wanted = text.trim().toLowerCase();
  if (!wanted) return null;
  const [from, to] = wanted.split("->");
  if (to === undefined) return (writer, reader) => begins(writer, wanted) || begins(reader, wanted);
  return (writer, reader) => begins(writer, from.trim()) && begins(reader, to.trim());
}

/** Whether a name begins with a text, or ends with `<q>` and the like; `a1` is no beginning of `a12`. */
function begins(name, text) {
  if (text.startsWith("<")) return name.endsWith(text);
  if (text.startsWith("h") && /^h\d+$/.test(text)) return name.includes(`.${text}<`) || name.endsWith(`.${text}`);
  return name.startsWith(text) && !(/\d$/.test(text) && /^\d/.test(name.slice(text.length)));
}
