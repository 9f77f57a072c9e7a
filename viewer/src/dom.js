// Making elements. Text is always set as text, so labels and tokens from anywhere are inert.

/** h("button", { class: "x", onclick: f }, "words", child, ...) */
export function h(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) {
    if (attribute.startsWith("on")) made.addEventListener(attribute.slice(2), value);
    else if (value === true) made.setAttribute(attribute, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(attribute, value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

export function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  made.append(...children);
  return made;
}

/** A button that looks like a link in running text. */
export function link(words, onclick, attributes = {}) {
  return h("button", { type: "button", class: "link", onclick, ...attributes }, words);
}

export const count = (value) => value.toLocaleString("en-US");

export function number(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  const words = size >= 100 ? value.toFixed(1) : size >= 0.001 || size === 0 ? value.toFixed(3) : value.toExponential(1);
  return words.replace("-", "−");
}

export const percent = (value) => (value === null || value === undefined ? "–" : `${(100 * value).toFixed(1).replace("-", "−")} %`);

/** Calls `work` once things have been quiet for a while. */
export function later(work, wait) {
  let timer;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...given), wait);
  };
}
