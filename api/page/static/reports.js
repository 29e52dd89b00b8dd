// The reports of the history: which charts and which table each becomes.

import { fractionAxis, secondsAxis } from "./charts.js";
import { h, table } from "./dom.js";
import { count, decimal, number, percent, period, seconds, tickSeconds } from "./format.js";
import { band, groupsOf, nameOf, overTime, valueAt, withInterval } from "./traces.js";

const STAGES = [["queue_time_s", "Queue time"], ["ttft_s", "Time to first token"], ["tpot_s", "Time per output token"], ["e2e_latency_s", "Whole branch"]];
const PERCENTILES = ["p50", "p90", "p99"];
const DASHES = ["solid", "dash", "dot"];
const LEGEND_BELOW = { legend: { orientation: "h", x: 0, y: -0.3, yanchor: "top" } };

const headOf = (report) => report.group_by?.replace("_", " ") ?? null;
const groupHead = (report) => (report.group_by ? [[headOf(report)]] : []);
const groupCell = (report, row) => (report.group_by ? h("td", {}, nameOf(row)) : null);
const periodHead = (report) => [[`${report.every ?? "range"} (UTC)`]];
const periodCell = (report, row) => h("td", {}, period(row.at, report.every));

/** The range of a report, as an axis. */
const timeAxis = (report) => ({ type: "date", range: [report.start_at, report.end_at] });
const valuesOf = (traces) => traces.flatMap((trace) => trace.y);

const latency = {
  name: "latency",
  title: "Latency of branches",
  isOverTime: true,
  views: (report, { percentile }) =>
    STAGES.map(([stage, title]) => ({
      title: report.group_by ? `${title}, ${percentile.toUpperCase()}` : title,
      label: `${title} over time, in seconds`,
      build: (colors) => {
        const traces = report.group_by
          ? overTime(report.data, `${stage}.${percentile}`, colors)
          : PERCENTILES.flatMap((name) => overTime(report.data, `${stage}.${name}`, { series: [colors[name]] }, { name: name.toUpperCase() }));
        return { traces, layout: { xaxis: timeAxis(report), yaxis: secondsAxis(valuesOf(traces)) } };
      },
    })),
  numbers: (report) =>
    table(
      "Latency",
      [...groupHead(report), ...periodHead(report), ["Branches", "num"], ...STAGES.flatMap(([, title]) => [[`${title} P50`, "num"], ["P90", "num"], ["P99", "num"]])],
      report.data.map((row, index) =>
        h("tr", { "data-key": `r${index}` }, groupCell(report, row), periodCell(report, row), h("td.num", {}, number(row.num_branches, count, "num_branches")), STAGES.map(([stage]) => PERCENTILES.map((name) => h("td.num", {}, number(row[stage][name], seconds, `${stage}.${name}`))))),
      ),
    ),
};

const attainment = {
  name: "attainment",
  title: "Deadlines",
  isOverTime: true,
  views: (report, { whole }) => [
    {
      title: "Deadlines met",
      label: "Fraction of promised jobs that met their deadline, over time",
      build: (colors) => {
        const rows = report.data.filter((row) => row.slo_attainment.value !== null);
        const lines = overTime(rows, "slo_attainment.value", report.group_by ? colors : { series: [colors.good] });
        const traces = report.group_by ? lines : [...band(rows, "slo_attainment", colors.goodBand), ...lines];
        return { traces, layout: { xaxis: timeAxis(report), yaxis: fractionAxis(valuesOf(traces)), showlegend: Boolean(report.group_by) } };
      },
      note: report.group_by ? null : "With 95% intervals.",
    },
    {
      title: "Jobs",
      label: "Jobs that ended and submissions that were refused, over time",
      build: (colors) => {
        const group = (field, name, color) => ({ type: "bar", x: report.data.map((row) => row.at), y: report.data.map((row) => row[field]), name, meta: { field, group: "every" }, marker: { color } });
        const traces = report.group_by
          ? groupsOf(report.data).map((name, index) => {
              const own = report.data.filter((row) => nameOf(row) === name);
              return { type: "bar", x: own.map((row) => row.at), y: own.map((row) => row.num_jobs), name, meta: { field: "num_jobs", group: name }, marker: { color: colors.series[index % colors.series.length] } };
            })
          : [group("num_jobs", "ended", colors.decode), group("num_refused", "refused", colors.dim)];
        return { traces, layout: { barmode: "stack", xaxis: timeAxis(report), yaxis: { rangemode: "tozero" } } };
      },
    },
    {
      title: "Lateness",
      label: "Jobs by time between deadline and end",
      build: (colors) => histogram(whole, "lateness_histogram", "time after the deadline; negative is early", (bin) => ((bin.ge_s ?? -1) >= 0 ? colors.p99 : colors.good)),
    },
    {
      title: "Slack at submission",
      label: "Jobs by time between the predicted end and the deadline",
      build: (colors) => histogram(whole, "slack_histogram", "from the predicted end to the deadline", (bin) => ((bin.lt_s ?? 1) <= 0 ? colors.p99 : colors.decode)),
    },
  ],
  numbers: (report) =>
    table(
      "Deadlines",
      [...groupHead(report), ...periodHead(report), ["Jobs", "num"], ["Promised", "num"], ["Met", "num"], ["Attainment", "num"], ["from", "num"], ["to", "num"], ["Refused", "num"], ["Expired", "num"], ["Failed", "num"], ["Cancelled", "num"], ["Lateness P50", "num"], ["P90", "num"], ["P99", "num"]],
      report.data.map((row, index) =>
        h(
          "tr",
          { "data-key": `r${index}` },
          groupCell(report, row),
          periodCell(report, row),
          ["num_jobs", "num_promised", "num_met"].map((name) => h("td.num", {}, number(row[name], count, name))),
          ["value", "low", "high"].map((name) => h("td.num", {}, number(row.slo_attainment[name], percent, `slo_attainment.${name}`))),
          ["num_refused", "num_expired", "num_failed", "num_cancelled"].map((name) => h("td.num", {}, number(row[name], count, name))),
          PERCENTILES.map((name) => h("td.num", {}, number(row.lateness_s[name], seconds, `lateness_s.${name}`))),
        ),
      ),
    ),
};

/**
 * Bars between the edges of the bins; the edges are labeled, and the bins equally wide. Bins without
 * jobs are left out by the API: a gap, however long, is one place without a bar.
 */
function histogram(whole, name, title, colorOf) {
  const bins = (whole.attainment?.[name] ?? []).flatMap((bin, index, all) => {
    const before = all[index - 1];
    return before && before.lt_s !== bin.ge_s ? [{ ge_s: before.lt_s, lt_s: bin.ge_s, num_jobs: 0 }, bin] : [bin];
  });
  const edges = bins.length ? [...bins.map((bin) => bin.ge_s), bins.at(-1).lt_s] : [];
  return {
    traces: [{ type: "bar", x: bins.map((_, index) => index + 0.5), y: bins.map((bin) => bin.num_jobs), width: 0.94, marker: { color: bins.map(colorOf) }, meta: { field: name, group: "whole" }, name: "jobs", hovertemplate: "%{y} jobs<extra></extra>" }],
    layout: { showlegend: false, hovermode: "closest", xaxis: { title: { text: title }, tickvals: edges.map((_, index) => index), ticktext: edges.map((edge) => (edge === null ? "" : tickSeconds(edge))), tickangle: bins.length > 9 ? -40 : 0, showgrid: false }, yaxis: { rangemode: "tozero" } },
  };
}

const accuracy = {
  name: "accuracy",
  title: "Accuracy against branches",
  isOverTime: false,
  views: (report) => [
    {
      title: "Accuracy against branches",
      label: "Accuracy of a vote over so many of the stored branches, and over all of them",
      build: (colors) => {
        const traces = report.data.flatMap((row, index) => {
          const color = colors.series[index % colors.series.length];
          const line = (field, extra) => ({ type: "scatter", mode: "lines+markers", x: row.widths.map((width) => width.num_branches), y: row.widths.map((width) => valueAt(width, field)), meta: { field, group: nameOf(row), list: "widths" }, ...extra });
          const of = report.group_by ? `${nameOf(row)}, ` : "";
          return [
            line("accuracy.value", { ...withInterval(row.widths.map((width) => width.accuracy), color), name: `${of}so many`, line: { color, width: 2 }, marker: { color, size: 6 } }),
            line("accuracy_of_all", { mode: "lines", name: `${of}all`, line: { color, width: 1.5, dash: "dot" } }),
          ];
        });
        return { traces, layout: { xaxis: { type: "log", title: { text: "branches in the vote" }, tickvals: [1, 2, 4, 8, 16, 32, 64], ticktext: ["1", "2", "4", "8", "16", "32", "64"] }, yaxis: fractionAxis([...valuesOf(traces), ...report.data.flatMap((row) => row.widths.map((width) => width.accuracy.low))]) } };
      },
      note: "What a vote over so many stored branches gives, beside a vote over all branches of the same problems. Votes that stay open get more branches, so wide ones are about harder problems.",
    },
  ],
  numbers: (report) =>
    table(
      "Accuracy against branches",
      [...groupHead(report), ["Branches", "num"], ["Problems", "num"], ["Accuracy", "num"], ["from", "num"], ["to", "num"], ["With all", "num"], ["Row-seconds each", "num"], ["Would have saved", "num"]],
      report.data.flatMap((row) =>
        row.widths.map((width) =>
          h(
            "tr",
            { "data-key": `${nameOf(row)}-${width.num_branches}` },
            groupCell(report, row),
            h("td.num", {}, number(width.num_branches, count, "num_branches")),
            h("td.num", {}, number(width.num_problems, count, "num_problems")),
            ["value", "low", "high"].map((name) => h("td.num", {}, number(width.accuracy[name], percent, `accuracy.${name}`))),
            h("td.num", {}, number(width.accuracy_of_all, percent, "accuracy_of_all")),
            h("td.num", {}, number(width.row_seconds, decimal, "row_seconds")),
            h("td.num", {}, number(width.saved_row_seconds, seconds, "saved_row_seconds")),
          ),
        ),
      ),
    ),
};

/** Draft lengths of all rows, shortest first. */
const draftsOf = (report) => [...new Set(report.data.flatMap((row) => row.by_draft.map((draft) => draft.num_speculative_tokens)))].sort((one, other) => one - other);

const speculation = {
  name: "speculation",
  title: "Speculation",
  isOverTime: false,
  views: (report, { percentile }) => [
    {
      title: "Tokens per forward pass",
      label: "Mean acceptance length by draft length",
      build: (colors) => ({
        traces: report.data.map((row, index) => ({ type: "bar", x: row.by_draft.map((draft) => `draft ${draft.num_speculative_tokens}`), y: row.by_draft.map((draft) => draft.mean_acceptance_length), name: nameOf(row), meta: { field: "mean_acceptance_length", group: nameOf(row), list: "by_draft" }, marker: { color: colors.series[index % colors.series.length] } })),
        layout: { barmode: "group", bargap: 0.4, xaxis: { type: "category", categoryorder: "array", categoryarray: draftsOf(report).map((draft) => `draft ${draft}`) }, yaxis: { rangemode: "tozero" }, showlegend: report.data.length > 1 },
      }),
    },
    {
      title: `Time per token by rows in use, ${percentile.toUpperCase()}`,
      label: "Time per output token by rows in use, one line for each draft length",
      build: (colors) => {
        const traces = report.data.flatMap((row, place) =>
          row.by_draft.map((draft, index) => {
            const known = draft.by_rows.filter((part) => part.ge !== null);
            const color = colors.series[index % colors.series.length];
            return { type: "scatter", mode: "lines+markers", x: known.map((part) => part.ge), y: known.map((part) => part.tpot_s[percentile]), text: known.map((part) => (part.lt === null ? `${part.ge} or more rows` : `${part.ge} to ${part.lt - 1} rows`)), name: `${report.data.length > 1 ? `${nameOf(row)}, ` : ""}draft ${draft.num_speculative_tokens}`, meta: { field: `tpot_s.${percentile}`, group: nameOf(row), draft: draft.num_speculative_tokens }, line: { color, width: 2, dash: DASHES[place % DASHES.length] }, marker: { color, size: 6 }, hovertemplate: "%{y:.4f} s with %{text}" };
          }),
        );
        const ticks = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];
        return { traces, layout: { xaxis: { type: "log", title: { text: "rows in use, from" }, tickvals: ticks, ticktext: ticks.map(String) }, yaxis: secondsAxis(valuesOf(traces)), showlegend: true, ...(traces.length > 4 ? LEGEND_BELOW : {}) } };
      },
    },
  ],
  numbers: (report) =>
    table(
      "Speculation",
      [...groupHead(report), ["Draft", "num"], ["Branches", "num"], ["Acceptance rate", "num"], ["By position"], ["Tokens per pass", "num"], ["Per token P50", "num"], ["P90", "num"], ["P99", "num"]],
      report.data.flatMap((row) =>
        row.by_draft.map((draft) =>
          h(
            "tr",
            { "data-key": `${nameOf(row)}-${draft.num_speculative_tokens}` },
            groupCell(report, row),
            h("td.num", {}, number(draft.num_speculative_tokens, count, "num_speculative_tokens")),
            h("td.num", {}, number(draft.num_branches, count, "num_branches")),
            h("td.num", {}, number(draft.acceptance_rate, percent, "acceptance_rate")),
            h("td", {}, draft.acceptance_by_position.map((rate, index) => [index ? "  " : "", number(rate, percent, "acceptance_by_position")])),
            h("td.num", {}, number(draft.mean_acceptance_length, decimal, "mean_acceptance_length")),
            PERCENTILES.map((name) => h("td.num", {}, number(draft.tpot_s[name], seconds, `tpot_s.${name}`))),
          ),
        ),
      ),
    ),
};

const PARTS = [["useful", "useful"], ["cancelled", "cancelled"], ["rejected_drafts", "rejected drafts"], ["retried", "retried"]];

const costs = {
  name: "costs",
  title: "Cost",
  isOverTime: true,
  views: (report) => [
    {
      title: "Row-seconds by what they brought",
      label: "Row-seconds over time, useful, cancelled, spent on rejected drafts and retried",
      build: (colors) => {
        const kinds = [colors.good, colors.dim, colors.p90, colors.p99];
        const traces = groupsOf(report.data).flatMap((group) => {
          const own = report.data.filter((row) => nameOf(row) === group);
          return PARTS.map(([part, name], index) => ({ type: "bar", x: own.map((row) => row.at), y: own.map((row) => row.row_seconds[part]), name, legendgroup: name, showlegend: group === nameOf(report.data[0]), meta: { field: `row_seconds.${part}`, group }, marker: { color: kinds[index] }, hovertemplate: `%{y:.0f} row-s ${name}${report.group_by ? `, ${group}` : ""}<extra></extra>` }));
        });
        return { traces, layout: { barmode: "stack", hovermode: "closest", xaxis: timeAxis(report), yaxis: { rangemode: "tozero", title: { text: "row-seconds" } } } };
      },
    },
  ],
  numbers: (report) => {
    const amount = (row, kind) => [...PARTS.map(([part]) => part), "total"].map((part) => h("td.num", {}, number(row[kind][part], (value) => count(Math.round(value)), `${kind}.${part}`)));
    const heads = (unit) => [[`${unit} useful`, "num"], ...PARTS.slice(1).map(([, name]) => [name, "num"]), ["total", "num"]];
    return table(
      "Cost",
      [...groupHead(report), ...periodHead(report), ["Branches", "num"], ...heads("Row-seconds"), ...heads("Tokens")],
      report.data.map((row, index) => h("tr", { "data-key": `r${index}` }, groupCell(report, row), periodCell(report, row), h("td.num", {}, number(row.num_branches, count, "num_branches")), amount(row, "row_seconds"), amount(row, "tokens"))),
    );
  },
};

export const REPORTS = [attainment, latency, accuracy, speculation, costs];
