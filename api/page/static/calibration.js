// Calibration: what was promised at admission against what came, over a range and job by job.

import { parameters } from "./address.js";
import { call, withQuery } from "./api.js";
import { chart, durationAxis } from "./charts.js";
import { empty, h, keep, panel, show, table } from "./dom.js";
import { between, count, instant, number, percent, seconds, signedPoints, signedSeconds } from "./format.js";
import { notify } from "./notice.js";
import { rangeControls, rangeOf } from "./range.js";
import { nameOf, withInterval } from "./traces.js";

const SHOWN = 100;
const LISTED = 20;

export async function enter(main, { signal }) {
  document.title = "Calibration · Slackline";
  const plots = Object.fromEntries(["reliability", "finish"].map((name) => [name, h("div.chart", { "data-keep": name })]));
  const { data: workers } = await call("/v1/workers", { signal });
  const models = [...new Set(workers.map((worker) => worker.model))];

  async function read() {
    const { group, model } = parameters();
    const [start, end] = rangeOf(parameters());
    const [report, page] = await Promise.all([
      call(withQuery("/v1/reports/calibration", { start, end, model, group_by: group || null }), { signal }),
      call(withQuery("/v1/jobs", { limit: SHOWN, state: "completed" }), { signal }),
    ]);
    render(report, page.data.map(compared));
  }

  function render(report, jobs) {
    const rows = report.data.filter((row) => row.num_jobs);
    show(
      main,
      h("h1", { "data-key": "title" }, "Calibration"),
      panel("Range", rangeControls({ models, onChange: () => read().catch((error) => notify(error.message)) })),
      rows.length
        ? [panel("Forecasts in numbers", numbers(report, rows)), h("div.charts", { "data-key": "charts" }, panel("Accuracy: forecast against actual", keep(plots.reliability)), jobs.length ? panel("Time: forecast against actual", keep(plots.finish), h("p.dim", {}, `The latest ${count(jobs.length)} completed jobs, whatever the range.`)) : null)]
        : panel("Nothing here", empty("No promised job ended in this range.", "Choose a longer range above, or submit a job from a ", h("a", { href: "/quote" }, "quote"), ".")),
      jobs.length ? panel("Latest completed jobs", listed(jobs.slice(0, LISTED))) : null,
    );
    if (!rows.length) return;
    const draw = (name, label, build) => chart(plots[name], label, build, signal).catch((error) => notify(error.message));
    draw("reliability", "Fraction of right answers, forecast and actual, with 95% intervals", (colors) => ({
      traces: [
        ...rows.map((row, index) => reliability(row, colors.series[index % colors.series.length])),
        diagonal([0, 1], colors),
      ],
      layout: { hovermode: "closest", xaxis: { tickformat: ".0%", range: [0, 1.03], title: { text: "forecast" } }, yaxis: { tickformat: ".0%", range: [0, 1.03], title: { text: "actual" } }, showlegend: rows.length > 1 },
    }));
    if (!jobs.length) return;
    draw("finish", "Seconds to the end of a job, forecast and actual", (colors) => ({
      traces: [
        points(jobs, "admittedS", "median forecast", colors.decode),
        points(jobs, "admittedP95S", "95% forecast", colors.p90),
        diagonal(jobs.flatMap((job) => [job.tookS, job.admittedS, job.admittedP95S]), colors),
      ],
      layout: { hovermode: "closest", xaxis: durationAxis("forecast", jobs.flatMap((job) => [job.admittedS, job.admittedP95S])), yaxis: durationAxis("actual", jobs.map((job) => job.tookS)) },
    }));
  }

  await read();
}

function compared(job) {
  const { admitted } = job;
  return {
    ...job,
    tookS: between(job.created_at, job.finished_at),
    admittedS: between(job.created_at, admitted.finish_at),
    admittedP95S: between(job.created_at, admitted.finish_p95_at),
  };
}

function reliability(row, color) {
  const bins = row.reliability;
  return {
    type: "scatter",
    mode: "lines+markers",
    x: bins.map((bin) => bin.predicted),
    y: bins.map((bin) => bin.actual.value),
    ...withInterval(bins.map((bin) => bin.actual), color),
    meta: { field: "actual.value", group: nameOf(row), list: "reliability" },
    text: bins.map((bin) => `${count(bin.num_problems)} problems of ${count(bin.num_jobs)} jobs`),
    name: nameOf(row),
    line: { color, width: 2 },
    marker: { color, size: 7 },
    hovertemplate: "%{x:.1%} forecast, %{y:.1%} actual<br>%{text}<extra></extra>",
  };
}

function points(jobs, x, name, color) {
  return { type: "scatter", mode: "markers", x: jobs.map((job) => job[x]), y: jobs.map((job) => job.tookS), text: jobs.map((job) => job.name || job.id), name, meta: { field: x }, marker: { color, size: 7, opacity: 0.75 }, hovertemplate: `%{text}: %{x:.1f} s ${name}, %{y:.1f} s actual<extra></extra>` };
}

function diagonal(values, colors) {
  const ends = [Math.min(...values), Math.max(...values)];
  return { type: "scatter", mode: "lines", x: ends, y: ends, line: { color: colors.dim, width: 1, dash: "dot" }, hoverinfo: "skip", showlegend: false };
}

function numbers(report, rows) {
  const share = (name, value) => [h("td.num", {}, number(value.value, percent, `${name}.value`)), h("td.dim", {}, value.value === null ? "" : [number(value.low, percent, `${name}.low`), " to ", number(value.high, percent, `${name}.high`)])];
  const columns = [...(report.group_by ? [[report.group_by.replace("_", " ")]] : []), ["Jobs", "num"], ["Within median", "num"], ["95% interval"], ["Within 95%", "num"], ["95% interval"], ["End off by P50", "num"], ["P90", "num"], ["Problems", "num"], ["Accuracy forecast", "num"], ["Actual", "num"], ["95% interval"], ["Too hopeful by", "num"]];
  const cells = rows.map((row, index) =>
    h(
      "tr",
      { "data-key": `r${index}` },
      report.group_by ? h("td", {}, nameOf(row)) : null,
      h("td.num", {}, number(row.num_jobs, count, "num_jobs")),
      share("finish_p50", row.finish_p50),
      share("finish_p95", row.finish_p95),
      h("td.num", {}, number(row.finish_error_s.p50, signedSeconds, "finish_error_s.p50")),
      h("td.num", {}, number(row.finish_error_s.p90, signedSeconds, "finish_error_s.p90")),
      h("td.num", {}, number(row.num_problems, count, "num_problems")),
      h("td.num", {}, number(row.predicted_accuracy, percent, "predicted_accuracy")),
      share("accuracy", row.accuracy),
      h("td.num", {}, number(row.accuracy_error, signedPoints, "accuracy_error")),
    ),
  );
  return [table("Forecasts in numbers", columns, cells), h("p.dim", {}, "A forecast is good when half of the jobs end within the median, 95 of 100 within the 95%, and the two accuracies are equal.")];
}

function listed(jobs) {
  const columns = [["Job"], ["Ended"], ["Took", "num"], ["Forecast median", "num"], ["Forecast 95%", "num"], [""], ["Accuracy", "num"], ["Forecast", "num"], ["Off by", "num"], ["Problems", "num"]];
  const rows = jobs.map((job) =>
    h(
      "tr",
      { "data-key": job.id },
      h("td", {}, h("a.row-link", { href: `/jobs/${job.id}`, title: job.id }, job.name || job.id)),
      h("td", {}, instant(job.finished_at)),
      h("td.num", {}, number(job.tookS, seconds, "took_s")),
      h("td.num", {}, number(job.admittedS, seconds, "admitted_s")),
      h("td.num", {}, number(job.admittedP95S, seconds, "admitted_p95_s")),
      h("td", {}, job.tookS <= job.admittedP95S ? h("span.good", {}, "within") : h("span.bad", {}, "beyond")),
      h("td.num", {}, number(job.accuracy, percent, "accuracy")),
      h("td.num", {}, number(job.admitted.accuracy, percent, "admitted_accuracy")),
      h("td.num", {}, number(job.accuracy === null ? null : job.accuracy - job.admitted.accuracy, signedPoints, "accuracy_off")),
      h("td.num", {}, number(job.num_problems, count, "num_problems")),
    ),
  );
  return table("Latest completed jobs", columns, rows);
}
