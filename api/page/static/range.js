// The range of a report, its grouping and its filter: chosen by controls, kept in the address.

import { parameters, setParameters } from "./address.js";
import { h } from "./dom.js";

const RANGES = [["1h", "Hour", 3600], ["1d", "Day", 86400], ["7d", "7 days", 604800], ["30d", "30 days", 2592000]];
const DEFAULT = "7d";

/** Start and end as the API takes them; an end of null is now. */
export function rangeOf({ range = DEFAULT, start, end }) {
  if (start || end) return [start ?? null, end ?? null];
  const lengthS = (RANGES.find(([name]) => name === range) ?? RANGES[2])[2];
  return [new Date(Date.now() - 1000 * lengthS).toISOString(), null];
}

/** The controls; `onChange` is called when the address has changed. */
export function rangeControls({ groups = null, models = [], onChange }) {
  const { range = DEFAULT, start, end, group = "hour", model = "" } = parameters();
  const isOwn = Boolean(start || end);
  const change = (changes) => {
    setParameters(changes, { remember: true });
    onChange();
  };
  const instant = (name, label, value) =>
    h("div.field", {}, h("label", { for: name }, label), h("input", { id: name, type: "datetime-local", value: toLocal(value), onchange: (event) => change({ [name]: event.target.value ? new Date(event.target.value).toISOString() : null, range: null }) }));
  const select = (name, label, options, value) => {
    const element = h("select", { id: name, onchange: (event) => change({ [name]: event.target.value }) }, options.map(([key, text]) => h("option", { value: key }, text)));
    element.value = value;
    return h("div.field", {}, h("label", { for: name }, label), element);
  };
  return h(
    "div.controls",
    {},
    h("div.group", { role: "group", "aria-label": "Range" }, RANGES.map(([name, text]) => h("button", { type: "button", "aria-pressed": String(!isOwn && range === name), onclick: () => change({ range: name, start: null, end: null }) }, text))),
    instant("start", "From", start),
    instant("end", "Until", end),
    groups ? select("group", "Group by", groups, group) : null,
    models.length > 1 ? select("model", "Model", [["", "all"], ...models.map((name) => [name, name])], model) : null,
  );
}

function toLocal(iso) {
  if (!iso) return "";
  const at = new Date(iso);
  return new Date(at.getTime() - 60000 * at.getTimezoneOffset()).toISOString().slice(0, 16);
}
