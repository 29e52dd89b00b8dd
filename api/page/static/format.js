// Numbers, times and durations as text. `number` keeps the API's own value beside what is shown.

import { h } from "./dom.js";

export const NONE = "–";

/** A number of the API: shown by `format`, exact in the attribute `value`. */
export function number(value, format, name = null) {
  if (value === null || value === undefined) return h("data", { value: "", "data-name": name }, NONE);
  return h("data", { value: String(value), "data-name": name }, format(value));
}

export const count = (value) => value.toLocaleString("en-US");
export const percent = (value) => `${(100 * value).toFixed(1)}%`;
export const decimal = (value) => value.toFixed(2);

/** Seconds in the two units that matter: 0.8 ms, 412 ms, 12.3 s, 4 m 05 s, 2 h 13 m, 3 d 4 h. */
export function seconds(value) {
  const size = Math.abs(value);
  const sign = value < 0 ? "−" : "";
  if (size === 0) return "0 s";
  if (size < 0.01) return `${sign}${(1000 * size).toFixed(1)} ms`;
  if (size < 0.9995) return `${sign}${(1000 * size).toFixed(0)} ms`;
  if (size < 59.95) return `${sign}${size.toFixed(1)} s`;
  const whole = Math.round(size);
  if (whole < 3600) return `${sign}${Math.floor(whole / 60)} m ${pad(whole % 60)} s`;
  const minutes = Math.round(size / 60);
  if (minutes < 1440) return `${sign}${Math.floor(minutes / 60)} h ${pad(minutes % 60)} m`;
  const hours = Math.round(size / 3600);
  return `${sign}${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** Seconds on an axis, in one unit: 20 ms, 1.5 s, 2 min, 4 h, 3 d. */
export function tickSeconds(value) {
  const size = Math.abs(value);
  const sign = value < 0 ? "−" : "";
  const short = (number) => sign + Number(number.toPrecision(3));
  if (size === 0) return "0";
  if (size < 1) return `${short(1000 * size)} ms`;
  if (size < 60) return `${short(size)} s`;
  if (size < 3600) return `${short(size / 60)} min`;
  if (size < 86400) return `${short(size / 3600)} h`;
  return `${short(size / 86400)} d`;
}

export const signedSeconds = (value) => (value > 0 ? `+${seconds(value)}` : seconds(value));
export const signedPoints = (value) => `${value < 0 ? "−" : "+"}${Math.abs(100 * value).toFixed(1)} points`;

const pad = (value) => String(value).padStart(2, "0");

/** An instant in local time; the day is left out when it is today. */
export function instant(iso, { withDay = null } = {}) {
  if (!iso) return NONE;
  const at = new Date(iso);
  const isToday = at.toDateString() === new Date().toDateString();
  const clock = `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
  const day = `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())}`;
  return h("time", { datetime: iso, title: iso }, withDay ?? !isToday ? `${day} ${clock}` : clock);
}

/** An hour or a day of a report; those are of UTC. */
export function period(iso, every) {
  if (!iso) return NONE;
  const at = new Date(iso).toISOString();
  return h("time", { datetime: iso, title: iso }, every === "day" ? at.slice(0, 10) : `${at.slice(0, 10)} ${at.slice(11, 16)}`);
}

/** Seconds between two instants of the API. */
export const between = (from, to) => (Date.parse(to) - Date.parse(from)) / 1000;

/** " to 16" behind the branches that a plan starts, where others follow those. */
export const following = (plan) => (plan.max_branches > plan.num_branches ? ` to ${plan.max_branches}` : "");

/** The branches of a plan: "8", or "1 to 16". */
export const branches = (plan) => `${plan.num_branches}${following(plan)}`;

/** A split in the words of the command line. */
export function split(plan) {
  if (!plan) return NONE;
  return `${branches(plan)} × draft ${plan.num_speculative_tokens}`;
}

/** The same with its numbers as data. */
export function splitData(plan) {
  if (!plan) return NONE;
  return [number(plan.num_branches, count, "num_branches"), following(plan), " × draft ", number(plan.num_speculative_tokens, count, "num_speculative_tokens")];
}

/** The state of a job or problem with a color that always means the same. */
export function chip(state) {
  return h(`span.chip.${state}`, {}, state);
}

/** Right, wrong or not graded, by a sign and by color. */
export function verdict(isCorrect) {
  if (isCorrect === true) return h("span.right", {}, "✓ right");
  if (isCorrect === false) return h("span.wrong", {}, "✗ wrong");
  return h("span.dim", {}, NONE);
}
