// Two ranges side by side: the one in view, and one to compare it with.

import { call, withQuery } from "./api.js";
import { h, table } from "./dom.js";
import { count, instant, number, percent, seconds, signedPoints, signedSeconds } from "./format.js";
import { nameOf } from "./traces.js";

const signedCount = (value) => `${value > 0 ? "+" : value < 0 ? "−" : ""}${count(Math.abs(value))}`;

/** [report, metric, title, format, format of a difference, whether more is better]. */
const METRICS = [
  ["attainment", "slo_attainment.value", "Deadlines met", percent, signedPoints, true],
  ["attainment", "num_jobs", "Jobs ended", count, signedCount, null],
  ["attainment", "num_refused", "Refused", count, signedCount, null],
  ["attainment", "lateness_s.p90", "Lateness P90", signedSeconds, signedSeconds, false],
  ["attainment", "slack_s.p50", "Slack at submission P50", signedSeconds, signedSeconds, true],
  ["latency", "num_branches", "Branches", count, signedCount, null],
  ["latency", "queue_time_s.p90", "Queue time P90", seconds, signedSeconds, false],
  ["latency", "ttft_s.p90", "Time to first token P90", seconds, signedSeconds, false],
  ["latency", "tpot_s.p50", "Time per output token P50", seconds, signedSeconds, false],
  ["latency", "tpot_s.p90", "Time per output token P90", seconds, signedSeconds, false],
  ["latency", "e2e_latency_s.p90", "Whole branch P90", seconds, signedSeconds, false],
  ["calibration", "accuracy.value", "Accuracy", percent, signedPoints, true],
  ["calibration", "finish_p95.value", "Ended within the 95% forecast", percent, signedPoints, true],
];
const REPORTS = [...new Set(METRICS.map(([report]) => report))];
const WEEK_MS = 7 * 86400 * 1000;

/** What to compare with, as parameters of the API; null when nothing is. */
export function earlier({ compare, before_start: start, before_end: end }, [from, until]) {
  if (compare === "before") return {};
  if (compare === "week") {
    const back = (instant) => new Date((instant ? Date.parse(instant) : Date.now()) - WEEK_MS).toISOString();
    return { before_start: back(from), before_end: back(until) };
  }
  if (compare === "own" && start && end) return { before_start: start, before_end: end };
  return null;
}

/** Reads the comparisons of all reports that are shown. */
export const readComparisons = (asked, before, signal) =>
  Promise.all(REPORTS.map((report) => call(withQuery("/v1/reports/compare", { ...asked, ...before, report }), { signal })));

/** The comparisons as one table. */
export function comparisonTable(comparisons) {
  const [{ group_by: groupBy, start_at: start, end_at: end, before_start_at: beforeStart, before_end_at: beforeEnd }] = comparisons;
  const groups = [...new Set(comparisons.flatMap((each) => each.data.map(nameOf)))];
  const rows = groups.flatMap((group) =>
    METRICS.flatMap(([report, metric, title, format, signed, isMoreBetter]) => {
      const found = comparisons[REPORTS.indexOf(report)].data.find((row) => nameOf(row) === group && row.metric === metric);
      return found ? [row(group, found, { title, format, signed, isMoreBetter, isGrouped: Boolean(groupBy) })] : [];
    }),
  );
  const range = (first, last) => [instant(first, { withDay: true }), " to ", instant(last, { withDay: true })];
  return [
    h("p.dim", {}, "Before: ", range(beforeStart, beforeEnd), ". After: ", range(start, end), "."),
    table("Comparison", [...(groupBy ? [[groupBy.replace("_", " ")]] : []), [""], ["Before", "num"], ["After", "num"], ["Difference", "num"], ["Ratio", "num"]], rows),
  ];
}

function row(group, found, { title, format, signed, isMoreBetter, isGrouped }) {
  const { before, after, difference, ratio, metric } = found;
  const isBetter = isMoreBetter === null || !difference ? null : difference > 0 === isMoreBetter;
  const kind = isBetter === null ? "" : isBetter ? "good" : "bad";
  return h(
    "tr",
    { "data-key": `${group}-${metric}`, "data-metric": metric },
    isGrouped ? h("td", {}, group) : null,
    h("th", { scope: "row" }, title),
    h("td.num", {}, number(before, format, "before")),
    h("td.num", {}, number(after, format, "after")),
    h("td.num", {}, h("span", { class: kind || null }, number(difference, signed, "difference"))),
    h("td.num", {}, number(ratio, (value) => `× ${value.toFixed(2)}`, "ratio")),
  );
}
