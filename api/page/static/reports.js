// The reports of the history: which charts and which table each becomes.

import { h, table } from "./dom.js";
import { count, decimal, instant, number, percent, seconds } from "./format.js";

const STAGES = [["queue_time_s", "Queue time"], ["ttft_s", "Time to first token"], ["tpot_s", "Time per output token"], ["e2e_latency_s", "Whole branch"]];
const PERCENTILES = ["p50", "p90", "p99"];

const nameOf = (row) => row.group ?? "all";
const groupsOf = (rows) => [...new Set(rows.map(nameOf))];
const groupCell = (row) => [h("td", {}, nameOf(row)), row.at === undefined ? null : h("td", {}, row.at ? instant(row.at, { withDay: true }) : "–")];
const groupHeads = (report) => [[report.group_by?.replace("_", " ") ?? "group"], [report.every ?? "range"]];

/** The range of a report, as an axis. */
const timeAxis = (report) => ({ type: "date", range: [report.start_at, report.end_at] });

/** Lines over time, one for each group; `valueOf(row)` may be null. */
function overTime(rows, valueOf, colors, extra = {}) {
  return groupsOf(rows).map((group, index) => {
    const own = rows.filter((row) => nameOf(row) === group);
    const color = colors.series[index % colors.series.length];
    return { type: "scatter", mode: "lines+markers", x: own.map((row) => row.at), y: own.map(valueOf), name: group, line: { color, width: 2 }, marker: { color, size: 5 }, ...extra };
  });
}

const latency = {
  name: "latency",
  title: "Latency",
  isOverTime: true,
  views: (report, { percentile, isGrouped }) =>
    STAGES.map(([stage, title]) => ({
      title: isGrouped ? `${title}, ${percentile.toUpperCase()}` : title,
      label: `${title} over time, in seconds`,
      build: (colors) => ({
        traces: isGrouped
          ? overTime(report.data, (row) => row[stage][percentile], colors)
          : PERCENTILES.flatMap((name) => overTime(report.data, (row) => row[stage][name], { series: [colors[name]] }, { name: name.toUpperCase() })),
        layout: { xaxis: timeAxis(report), yaxis: { title: { text: "seconds" }, rangemode: "tozero" } },
      }),
    })),
  numbers: (report) =>
    table(
      "Latency",
      [...groupHeads(report), ["Branches", "num"], ...STAGES.flatMap(([, title]) => [[`${title} P50`, "num"], ["P90", "num"], ["P99", "num"]])],
      report.data.map((row, index) =>
        h("tr", { "data-key": `r${index}` }, groupCell(row), h("td.num", {}, number(row.num_branches, count, "num_branches")), STAGES.map(([stage]) => PERCENTILES.map((name) => h("td.num", {}, number(row[stage][name], seconds, `${stage}.${name}`))))),
      ),
    ),
};

const attainment = {
  name: "attainment",
  title: "Deadlines",
  isOverTime: true,
  views: ({ data: rows, ...report }) => [
    {
      title: "Deadlines met",
      label: "Fraction of promised jobs that met their deadline, over time",
      build: (colors) => ({
        traces: overTime(rows, (row) => row.slo_attainment.value, colors).map((trace, index) => {
          const own = rows.filter((row) => nameOf(row) === trace.name && row.slo_attainment.value !== null);
          const off = own.map((row) => row.slo_attainment.high - row.slo_attainment.value);
          const below = own.map((row) => row.slo_attainment.value - row.slo_attainment.low);
          const color = colors.series[index % colors.series.length];
          return { ...trace, x: own.map((row) => row.at), y: own.map((row) => row.slo_attainment.value), error_y: { type: "data", array: off, arrayminus: below, color, thickness: 1, width: 3 } };
        }),
        layout: { xaxis: timeAxis(report), yaxis: { tickformat: ".0%", range: [0, 1.05] } },
      }),
      note: "With 95% intervals.",
    },
    {
      title: "Lateness",
      label: "Jobs by seconds between deadline and end",
      build: (colors) => histogram(rows, "lateness_histogram", "seconds after the deadline; negative is early", colors),
    },
    {
      title: "Slack at submission",
      label: "Jobs by seconds between the predicted end and the deadline",
      build: (colors) => histogram(rows, "slack_histogram", "seconds between predicted end and deadline", colors),
    },
  ],
  numbers: (report) =>
    table(
      "Deadlines",
      [...groupHeads(report), ["Jobs", "num"], ["Promised", "num"], ["Met", "num"], ["Attainment", "num"], ["from", "num"], ["to", "num"], ["Refused", "num"], ["Expired", "num"], ["Failed", "num"], ["Cancelled", "num"], ["Lateness P50", "num"], ["P90", "num"], ["P99", "num"]],
      report.data.map((row, index) =>
        h(
          "tr",
          { "data-key": `r${index}` },
          groupCell(row),
          ["num_jobs", "num_promised", "num_met"].map((name) => h("td.num", {}, number(row[name], count, name))),
          ["value", "low", "high"].map((name) => h("td.num", {}, number(row.slo_attainment[name], percent, `slo_attainment.${name}`))),
          ["num_refused", "num_expired", "num_failed", "num_cancelled"].map((name) => h("td.num", {}, number(row[name], count, name))),
          PERCENTILES.map((name) => h("td.num", {}, number(row.lateness_s[name], seconds, `lateness_s.${name}`))),
        ),
      ),
    ),
};

/** Bars for the bins of all rows together, in their order. */
function histogram(rows, name, title, colors) {
  const bins = new Map();
  for (const bin of rows.flatMap((row) => row[name])) {
    const key = `${bin.ge_s}/${bin.lt_s}`;
    const known = bins.get(key) ?? { ...bin, num_jobs: 0 };
    bins.set(key, { ...known, num_jobs: known.num_jobs + bin.num_jobs });
  }
  const sorted = [...bins.values()].sort((a, b) => (a.ge_s ?? -Infinity) - (b.ge_s ?? -Infinity));
  const label = (bin) => (bin.ge_s === null ? `< ${seconds(bin.lt_s)}` : bin.lt_s === null ? `≥ ${seconds(bin.ge_s)}` : `${seconds(bin.ge_s)} to ${seconds(bin.lt_s)}`);
  return {
    traces: [{ type: "bar", x: sorted.map(label), y: sorted.map((bin) => bin.num_jobs), marker: { color: sorted.map((bin) => (name === "lateness_histogram" && (bin.ge_s ?? -1) >= 0) || (name === "slack_histogram" && (bin.lt_s ?? 1) <= 0) ? colors.p99 : colors.decode) }, name: "jobs" }],
    layout: { showlegend: false, xaxis: { type: "category", title: { text: title } }, yaxis: { title: { text: "jobs" }, rangemode: "tozero" } },
  };
}

const accuracy = {
  name: "accuracy",
  title: "Accuracy against branches",
  isOverTime: false,
  views: ({ data: rows }) => [
    {
      title: "Accuracy against branches",
      label: "Accuracy of a vote over so many of the stored branches",
      build: (colors) => ({
        traces: rows.map((row, index) => {
          const color = colors.series[index % colors.series.length];
          return {
            type: "scatter",
            mode: "lines+markers",
            x: row.widths.map((width) => width.num_branches),
            y: row.widths.map((width) => width.accuracy.value),
            error_y: { type: "data", array: row.widths.map((width) => width.accuracy.high - width.accuracy.value), arrayminus: row.widths.map((width) => width.accuracy.value - width.accuracy.low), color, thickness: 1, width: 3 },
            name: nameOf(row),
            line: { color, width: 2 },
            marker: { color, size: 6 },
          };
        }),
        layout: { xaxis: { type: "log", title: { text: "branches in the vote" }, tickvals: [1, 2, 4, 8, 16, 32, 64], ticktext: ["1", "2", "4", "8", "16", "32", "64"] }, yaxis: { tickformat: ".0%", title: { text: "right answers" } }, showlegend: rows.length > 1 },
      }),
      note: "Unbiased, from stored branches, with 95% intervals. The problems behind differ from width to width.",
    },
  ],
  numbers: (report) =>
    table(
      "Accuracy against branches",
      [[report.group_by?.replace("_", " ") ?? "group"], ["Branches", "num"], ["Problems", "num"], ["Accuracy", "num"], ["from", "num"], ["to", "num"], ["With all", "num"], ["Row-seconds each", "num"], ["Would have saved", "num"]],
      report.data.flatMap((row) =>
        row.widths.map((width) =>
          h(
            "tr",
            { "data-key": `${nameOf(row)}-${width.num_branches}` },
            h("td", {}, nameOf(row)),
            h("td.num", {}, number(width.num_branches, count)),
            h("td.num", {}, number(width.num_problems, count)),
            ["value", "low", "high"].map((name) => h("td.num", {}, number(width.accuracy[name], percent, `accuracy.${name}`))),
            h("td.num", {}, number(width.accuracy_of_all, percent)),
            h("td.num", {}, number(width.row_seconds, decimal)),
            h("td.num", {}, number(width.saved_row_seconds, seconds)),
          ),
        ),
      ),
    ),
};

const speculation = {
  name: "speculation",
  title: "Speculation",
  isOverTime: false,
  views: ({ data: rows }, { percentile }) => [
    {
      title: "Tokens per forward pass",
      label: "Mean acceptance length by draft length",
      build: (colors) => ({
        traces: rows.map((row, index) => ({ type: "bar", x: row.by_draft.map((draft) => `draft ${draft.num_speculative_tokens}`), y: row.by_draft.map((draft) => draft.mean_acceptance_length), name: nameOf(row), marker: { color: colors.series[index % colors.series.length] } })),
        layout: { barmode: "group", xaxis: { type: "category" }, yaxis: { rangemode: "tozero", title: { text: "tokens" } }, showlegend: rows.length > 1 },
      }),
    },
    {
      title: `Time per token by rows in use, ${percentile.toUpperCase()}`,
      label: "Time per output token by rows in use, one line for each draft length",
      build: (colors) => ({
        traces: rows.flatMap((row) =>
          row.by_draft.map((draft, index) => {
            const known = draft.by_rows.filter((part) => part.ge !== null);
            const color = colors.series[index % colors.series.length];
            return { type: "scatter", mode: "lines+markers", x: known.map((part) => (part.lt === null ? `${part.ge} or more` : `${part.ge} to ${part.lt - 1}`)), y: known.map((part) => part.tpot_s[percentile]), name: `${rows.length > 1 ? `${nameOf(row)}, ` : ""}draft ${draft.num_speculative_tokens}`, line: { color, width: 2 }, marker: { color, size: 6 } };
          }),
        ),
        layout: { xaxis: { type: "category", title: { text: "rows in use" } }, yaxis: { rangemode: "tozero", title: { text: "seconds" } }, showlegend: true },
      }),
    },
  ],
  numbers: (report) =>
    table(
      "Speculation",
      [[report.group_by?.replace("_", " ") ?? "group"], ["Draft", "num"], ["Branches", "num"], ["Acceptance rate", "num"], ["By position"], ["Tokens per pass", "num"], ["Per token P50", "num"], ["P90", "num"], ["P99", "num"]],
      report.data.flatMap((row) =>
        row.by_draft.map((draft) =>
          h(
            "tr",
            { "data-key": `${nameOf(row)}-${draft.num_speculative_tokens}` },
            h("td", {}, nameOf(row)),
            h("td.num", {}, number(draft.num_speculative_tokens, count)),
            h("td.num", {}, number(draft.num_branches, count)),
            h("td.num", {}, number(draft.acceptance_rate, percent)),
            h("td", {}, draft.acceptance_by_position.map(percent).join("  ")),
            h("td.num", {}, number(draft.mean_acceptance_length, decimal)),
            PERCENTILES.map((name) => h("td.num", {}, number(draft.tpot_s[name], seconds, `tpot_s.${name}`))),
          ),
        ),
      ),
    ),
};

export const REPORTS = [attainment, latency, accuracy, speculation];
