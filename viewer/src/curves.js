// Small charts of quality against size. Measured sizes are dots; the line at the size in view is solid where that size
// was measured and dashed where its numbers are interpolated. A click chooses a size.

import { scaleLinear, scaleLog } from "d3-scale";
import { area, line } from "d3-shape";
import { h, number, percent, svg } from "./dom.js";
import { at, spansDecades } from "./measured.js";

const [WIDTH, HEIGHT] = [400, 128];
const [LEFT, RIGHT, TOP, BOTTOM] = [38, 12, 10, 22];
const DECADES = 1e5; // of a logarithmic axis; rounding errors of the whole model stand at its end
const TITLES = { faithfulness: "Faithfulness", kl: "KL", squared_error: "Squared error", accuracy: "Accuracy", agreement: "Agreement" };

export function named(circuit) {
  return [circuit.loss.name, "faithfulness", "accuracy"].filter((name) => circuit.points.some((p) => p[name] != null));
}

export class Curves {
  constructor(root, onsize) {
    this.root = root;
    this.onsize = onsize;
  }

  /** Draw the charts of a circuit; `mark` then moves the line. */
  show(circuit, most) {
    this.circuit = circuit;
    const sizes = circuit.points.map(({ edges }) => edges);
    this.x = scaleLog([Math.max(1, Math.min(...sizes, 8)), Math.max(most, 10)], [LEFT, WIDTH - RIGHT]).clamp(true);
    this.names = named(circuit);
    this.charts = Object.fromEntries(this.names.map((name) => [name, this.#chart(name)]));
    this.root.replaceChildren(...Object.values(this.charts).map(({ figure }) => figure));
    this.root.hidden = this.names.length === 0;
  }

  #chart(name) {
    const points = this.circuit.points.filter((point) => point[name] != null);
    const values = points.map((point) => point[name]);
    const log = name === this.circuit.loss.name && spansDecades(values);
    const y = this.#scale(name, values, log);
    const onlog = log ? points.filter((point) => point[name] > 0) : points;
    const place = (point) => [this.x(point.edges), y(point[name])];
    const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": this.#words(this.#title(name), name, points, log) });
    drawing.append(...this.#axes(y, log), ...this.#levels(name, y));
    const ranged = onlog.filter((point) => point.range?.[name] && (!log || point.range[name][0] > 0));
    if (ranged.length > 1) {
      const band = area(([a]) => a, ([, b]) => b, ([, , c]) => c);
      drawing.append(svg("path", { class: `interval ${name}`, d: band(ranged.map((p) => [this.x(p.edges), y(p.range[name][0]), y(p.range[name][1])])) }));
    }
    drawing.append(svg("path", { class: `curve ${name}`, d: line()(onlog.map(place)) ?? "" }));
    for (const point of onlog) {
      const [cx, cy] = place(point);
      drawing.append(svg("circle", { class: `dot-of ${name} ${point.split === "test" ? "" : "open"}`, cx, cy, r: 2.6 }));
    }
    const cursor = svg("line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM });
    const knob = svg("circle", { class: "knob", r: 5 });
    drawing.append(cursor, knob);
    drawing.addEventListener("click", (event) => {
      const { left, width } = drawing.getBoundingClientRect();
      this.onsize(Math.round(this.x.invert(((event.clientX - left) / width) * WIDTH)));
    });
    const value = h("span", { class: "value" });
    const unit = name === this.circuit.loss.name ? this.circuit.loss.unit : "";
    const axes = `${[unit, "by number of edges"].filter(Boolean).join(", ")}${log ? "; both axes logarithmic" : ""}`;
    const caption = h("figcaption", {}, h("b", {}, this.#title(name)), value, h("small", {}, axes));
    return { figure: h("figure", { class: "chart" }, caption, drawing), y, cursor, knob, value, log };
  }

  #scale(name, values, log) {
    const range = [HEIGHT - BOTTOM, TOP];
    if (!log) return scaleLinear([Math.min(0, ...values), Math.max(1, ...values) * (name === "accuracy" ? 1 : 1.02)], range).clamp(true);
    const positive = values.filter((value) => value > 0);
    const most = Math.max(...positive);
    return scaleLog([Math.max(Math.min(...positive), most / DECADES) / 1.3, most * 1.3], range).clamp(true);
  }

  #axes(y, log) {
    const parts = [];
    const decades = log ? Math.log10(y.domain()[1] / y.domain()[0]) : 0;
    const every = Math.max(1, Math.ceil(decades / 4));
    const ticks = log ? y.ticks().filter((t) => Math.round(Math.log10(t)) % every === 0 && isPower(t) || (decades < 1.5 && [2, 5].includes(+String(t.toExponential())[0]))) : y.ticks(4);
    for (const tick of ticks) {
      parts.push(svg("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(tick), y2: y(tick) }));
      parts.push(svg("text", { class: "tick end", x: LEFT - 6, y: y(tick) + 3.5 }, short(tick)));
    }
    const sizes = this.x.ticks().filter(isPower);
    for (const tick of sizes) parts.push(svg("text", { class: "tick middle", x: this.x(tick), y: HEIGHT - 6 }, tick === 1 ? "1 edge" : short(tick)));
    return parts;
  }

  #levels(name, y) {
    const level = name === "faithfulness" ? 1 : name === "accuracy" ? this.circuit.model?.accuracy : null;
    if (level == null) return [];
    return [svg("line", { class: "level", x1: LEFT, x2: WIDTH - RIGHT, y1: y(level), y2: y(level) })];
  }

  /** Accuracy is agreement with the model where no pair has an answer of its own. */
  #title(name) {
    const key = name === "accuracy" ? this.circuit.accuracy : name;
    return TITLES[key] ?? key;
  }

  #words(title, name, points, log) {
    const said = points.map((point) => `${point.edges} edges: ${number(point[name])}`).join("; ");
    return `${title} against the number of edges${log ? ", on logarithmic axes" : ""}. ${said}`;
  }

  /** Move the lines to a size; returns what is known there. */
  mark(size) {
    const found = at(this.circuit.points, size, this.names);
    const x = this.x(Math.max(size, 1));
    for (const name of this.names) {
      const { cursor, knob, value, y, log } = this.charts[name];
      const known = found?.point[name] ?? null;
      cursor.setAttribute("x1", x);
      cursor.setAttribute("x2", x);
      knob.setAttribute("cx", x);
      const drawn = known !== null && (!log || known > 0);
      knob.setAttribute("cy", drawn ? y(known) : 0);
      knob.setAttribute("visibility", drawn ? "visible" : "hidden");
      const words = name === this.circuit.loss.name ? number(known) : percent(known);
      value.textContent = known !== null && !found.measured ? `≈ ${words}` : words;
    }
    this.root.classList.toggle("between", found !== null && !found.measured);
    return found;
  }
}

function isPower(value) {
  return Math.abs(Math.log10(value) - Math.round(Math.log10(value))) < 1e-9;
}

function short(value) {
  if (value >= 1e6) return `${value / 1e6}M`;
  if (value >= 1e3) return `${value / 1e3}k`;
  return value !== 0 && Math.abs(value) < 0.001 ? value.toExponential(0) : `${+value.toPrecision(3)}`;
}
