// Builds and updates elements. Text goes in as text nodes only, so nothing stored is ever markup.

const HANDLERS = ["onclick", "oninput", "onchange", "onsubmit", "onkeydown"];

/** An element: `h("td.num", {title: "s"}, "1.2")`. Null children and attributes are left out. */
export function h(what, attributes = {}, ...children) {
  const [tag, ...classes] = what.split(".");
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(" ");
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (HANDLERS.includes(name)) element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== false && child !== undefined));
  return element;
}

/**
 * Makes the children of `parent` those of the fresh tree, keeping every element that can stay:
 * focus, selection, scroll positions and open details survive. Children with `data-key` are
 * matched by it, the others by position. What is in an element with `data-keep` is left to its owner;
 * give it as `keep(element)`.
 */
export function show(parent, ...fresh) {
  const holder = document.createDocumentFragment();
  holder.append(...fresh.flat(Infinity).filter((child) => child !== null && child !== false && child !== undefined));
  patchChildren(parent, holder);
}

function patchChildren(parent, fresh) {
  const keyed = new Map();
  for (const child of parent.children) if (child.dataset.key) keyed.set(child.dataset.key, child);
  let place = parent.firstChild;
  for (const child of [...fresh.childNodes]) {
    const key = child.dataset?.key;
    const old = key ? keyed.get(key) : place;
    if (old && isSame(old, child)) {
      if (old === place) place = place.nextSibling;
      else parent.insertBefore(old, place);
      patch(old, child);
    } else {
      parent.insertBefore(child, place);
    }
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}

function isSame(old, fresh) {
  return (
    old.nodeType === fresh.nodeType &&
    old.nodeName === fresh.nodeName &&
    old.dataset?.key === fresh.dataset?.key &&
    old.dataset?.keep === fresh.dataset?.keep
  );
}

function patch(old, fresh) {
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  if (old.dataset.keep) return;
  const { value: chosen } = fresh;
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !(name === "open" && old.tagName === "DETAILS")) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const name of HANDLERS) old[name] = fresh[name];
  if (old.tagName === "INPUT" || old.tagName === "TEXTAREA") {
    if (old !== document.activeElement) old.value = chosen;
    return;
  }
  patchChildren(old, fresh);
  if (old.tagName === "SELECT") old.value = chosen;
}

/** Where an element with `data-keep` belongs in a fresh tree; it stays where it is when it is there. */
export const keep = (element) => (element.isConnected ? element.cloneNode(false) : element);

/** A note in place of content that is not there: what it is, and what to do next. */
export function empty(title, ...what) {
  return h("div.empty", {}, h("p.empty-title", {}, title), h("p", {}, ...what));
}

/** One number that matters, with its name above and a note below. */
export function tile(title, value, note, kind = "") {
  return h("div.tile", { "data-key": title }, h("h2", {}, title), h(`p.value${kind ? "." + kind : ""}`, {}, value), h("p.dim", {}, note));
}

/** A titled part of a view. */
export function panel(title, ...children) {
  const id = `panel-${title.toLowerCase().replace(/\W+/g, "-")}`;
  return h("section.panel", { "aria-labelledby": id, "data-key": id }, h("h2", { id }, title), ...children);
}

/** A table; `columns` are [title, class] pairs, `rows` are <tr> elements. */
export function table(label, columns, rows) {
  const heads = columns.map(([title, kind]) => h("th", { class: kind, scope: "col" }, title));
  return h(
    "div.scroll",
    { tabindex: "0", role: "region", "aria-label": label },
    h("table", {}, h("thead", {}, h("tr", {}, heads)), h("tbody", {}, rows)),
  );
}

/** A fraction as a bar with its number beside it; `value` is [0, 1]. */
export function bar(value, kind = "") {
  return h("meter", { class: `bar ${kind}`, min: "0", max: "1", value: value ?? 0, "aria-hidden": "true" });
}
