// The range of a report, its grouping and its filters: chosen by controls, kept in the address.

import { parameters, setParameters } from "./address.js";
import { h } from "./dom.js";

const RANGES = [["1h", "Hour", 3600], ["1d", "Day", 86400], ["7d", "7 days", 604800], ["30d", "30 days", 2592000]];
const DEFAULT = "7d";
const GROUPS = [["", "nothing"], ["model", "model"], ["engine", "engine"], ["family", "kind of problems"], ["deadline_class", "deadline class"], ["split", "split"], ["tenant", "tenant"]];
const COMPARED = [["", "nothing"], ["before", "the range before"], ["week", "a week earlier"], ["own", "another range"]];
const PERCENTILES = [["p50", "P50"], ["p90", "P90"], ["p99", "P99"]];
const HOUR_MS = 3600 * 1000;

/** Start and end as the API takes them; an end of null is now. Whole hours are the fastest. */
export function rangeOf({ range = DEFAULT, start, end }) {
  if (start || end) return [start ?? null, end ?? null];
  const lengthS = (RANGES.find(([name]) => name === range) ?? RANGES[2])[2];
  return [new Date(Math.floor((Date.now() - 1000 * lengthS) / HOUR_MS) * HOUR_MS).toISOString(), null];
}

/** The controls; `onChange` is called when the address has changed. */
export function rangeControls({ models, onChange, isHistory = false }) {
  const { range = DEFAULT, start, end, group = "", model = "", percentile = "p90", compare = "" } = parameters();
  const before = { before_start: parameters().before_start, before_end: parameters().before_end };
  const isOwn = Boolean(start || end);
  const change = (changes) => {
    setParameters(changes, { remember: true });
    onChange();
  };
  const instant = (name, label, value, also = {}) =>
    h("div.field", {}, h("label", { for: name }, label), h("input", { id: name, type: "datetime-local", value: toLocal(value), onchange: (event) => change({ [name]: event.target.value ? new Date(event.target.value).toISOString() : null, ...also }) }));
  const select = (name, label, options, value) => {
    const element = h("select", { id: name, onchange: (event) => change({ [name]: event.target.value }) }, options.map(([key, text]) => h("option", { value: key }, text)));
    element.value = value;
    return h("div.field", {}, h("label", { for: name }, label), element);
  };
  return h(
    "div.controls",
    {},
    h("div.group", { role: "group", "aria-label": "Range" }, RANGES.map(([name, text]) => h("button", { type: "button", "aria-pressed": String(!isOwn && range === name), onclick: () => change({ range: name, start: null, end: null }) }, text))),
    instant("start", "From", start, { range: null }),
    instant("end", "Until", end, { range: null }),
    select("group", "Group by", GROUPS, group),
    models.length > 1 ? select("model", "Model", [["", "all"], ...models.map((name) => [name, name])], model) : null,
    isHistory ? select("percentile", "Percentile", PERCENTILES, percentile) : null,
    isHistory ? select("compare", "Compare with", COMPARED, compare) : null,
    isHistory && compare === "own" ? [instant("before_start", "Compared from", before.before_start), instant("before_end", "Compared until", before.before_end)] : null,
  );
}

function toLocal(iso) {
  if (!iso) return "";
  const at = new Date(iso);
  return new Date(at.getTime() - 60000 * at.getTimezoneOffset()).toISOString().slice(0, 16);
}
