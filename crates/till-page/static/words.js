// Elements and bilingual words. Texts only ever become text nodes, never markup.

export const byId = (id) => document.getElementById(id);

export function el(name, attributes, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(key, value);
    else if (value !== false && value != null) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child != null));
  return node;
}

export const spans = (text) => [el("span", { lang: "da" }, text.da), el("span", { lang: "en" }, text.en)];
export const one = (text, kind = "") => el("span", { class: `one ${kind}` }, spans(text));
export const two = (text, kind = "") => el("p", { class: `two ${kind}` }, spans(text));

/** What lasts, with the page of the runbook for it. */
export function told(notice, kind) {
  const shown = two(notice, kind);
  if (notice.runbook) shown.prepend(el("b", { class: "runbook" }, notice.runbook));
  return shown;
}

export function word(id) {
  const [da, en] = byId(`word-${id}`).content.children;
  return { da: da.textContent, en: en.textContent };
}

export function sign(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "sign");
  svg.setAttribute("aria-hidden", "true");
  svg.append(document.createElementNS(svg.namespaceURI, "use"));
  svg.firstChild.setAttribute("href", `#${name}`);
  return svg;
}

const TOAST_MS = 6000;

/** Says something for a moment, once. */
export function toast(text) {
  const same = [...byId("toasts").children].find((shown) => shown.firstChild.textContent === text.da);
  same?.remove();
  const shown = two(text);
  byId("toasts").append(shown);
  setTimeout(() => shown.remove(), TOAST_MS);
}
