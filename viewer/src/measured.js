// What was measured at some sizes, and what lies between them: said to be interpolated, never drawn as measured.

/** The numbers at a size: those measured there, or between its neighbours (linear in the logarithm of the size). */
export function at(points, size, names) {
  const exact = points.find((point) => point.edges === size);
  if (exact) return { point: exact, measured: true, from: [exact.edges] };
  const below = points.filter((point) => point.edges < size && point.edges > 0).at(-1);
  const above = points.find((point) => point.edges > size);
  if (!below || !above) return null;
  const share = Math.log(size / below.edges) / Math.log(above.edges / below.edges);
  const point = { edges: size, split: below.split === above.split ? below.split : null };
  for (const name of names) {
    const [a, b] = [below[name], above[name]];
    point[name] = a == null || b == null ? null : a + share * (b - a);
  }
  return { point, measured: false, from: [below.edges, above.edges] };
}

/** Whether positive values span more than a factor of ten. */
export function spansDecades(values) {
  const positive = values.filter((value) => value > 0);
  return positive.length > 1 && Math.max(...positive) / Math.min(...positive) > 10;
}
