// Calibration: what was promised at admission against what came, job by job.

import { call, withQuery } from "./api.js";
import { chart } from "./charts.js";
import { empty, h, keep, panel, show, table } from "./dom.js";
import { between, chip, count, instant, number, percent, seconds, signedPoints } from "./format.js";
import { notify } from "./notice.js";

const SHOWN = 100;

export async function enter(main, { signal }) {
  document.title = "Calibration · Slackline";
  const plots = { finish: h("div.chart", { "data-keep": "finish" }), accuracy: h("div.chart", { "data-keep": "accuracy" }) };
  const page = await call(withQuery("/v1/jobs", { limit: SHOWN, state: "completed" }), { signal });
  const jobs = page.data.map(compared);
  show(
    main,
    h("h1", { "data-key": "title" }, "Calibration"),
    jobs.length
      ? [
          h("div.charts", {}, panel("Time: forecast against actual", keep(plots.finish)), panel("Accuracy: forecast against actual", keep(plots.accuracy))),
          panel("Latest completed jobs", listed(jobs)),
        ]
      : panel("Nothing here", empty("No job has completed yet.", "Forecasts are scored when jobs complete. Submit one from a ", h("a", { href: "/quote" }, "quote"), ".")),
  );
  if (!jobs.length) return;
  const draw = (name, label, build) => chart(plots[name], label, build, signal).catch((error) => notify(error.message));
  draw("finish", "Seconds to the end of a job, forecast and actual", (colors) => ({
    traces: [
      points(jobs, "admittedS", "tookS", "median forecast", colors.decode, "%{x:.1f} s forecast, %{y:.1f} s actual"),
      points(jobs, "admittedP95S", "tookS", "95% forecast", colors.dim, "%{x:.1f} s forecast with 95%, %{y:.1f} s actual"),
      diagonal(jobs.flatMap((job) => [job.tookS, job.admittedS, job.admittedP95S]), colors),
    ],
    layout: { hovermode: "closest", xaxis: { type: "log", title: { text: "forecast, seconds" } }, yaxis: { type: "log", title: { text: "actual, seconds" } } },
  }));
  const graded = jobs.filter((job) => job.accuracy !== null);
  draw("accuracy", "Fraction of right answers, forecast and actual", (colors) => ({
    traces: [points(graded, "admittedAccuracy", "accuracy", "job", colors.decode, "%{x:.1%} forecast, %{y:.1%} actual"), diagonal([0, 1], colors)],
    layout: { hovermode: "closest", showlegend: false, xaxis: { tickformat: ".0%", range: [0, 1.03], title: { text: "forecast" } }, yaxis: { tickformat: ".0%", range: [0, 1.03], title: { text: "actual" } } },
  }));
}

function compared(job) {
  const { admitted } = job;
  return {
    ...job,
    tookS: between(job.created_at, job.finished_at),
    admittedS: between(job.created_at, admitted.finish_at),
    admittedP95S: between(job.created_at, admitted.finish_p95_at),
    admittedAccuracy: admitted.accuracy,
  };
}

function points(jobs, x, y, name, color, hover) {
  return { type: "scatter", mode: "markers", x: jobs.map((job) => job[x]), y: jobs.map((job) => job[y]), text: jobs.map((job) => job.name || job.id), name, marker: { color, size: 7, opacity: 0.75 }, hovertemplate: `%{text}: ${hover}<extra></extra>` };
}

function diagonal(values, colors) {
  const ends = [Math.min(...values), Math.max(...values)];
  return { type: "scatter", mode: "lines", x: ends, y: ends, line: { color: colors.dim, width: 1, dash: "dot" }, hoverinfo: "skip", name: "as forecast" };
}

function listed(jobs) {
  const columns = [["Job"], ["State"], ["Ended"], ["Took", "num"], ["Forecast median", "num"], ["Forecast 95%", "num"], [""], ["Accuracy", "num"], ["Forecast", "num"], ["Off by", "num"], ["Problems", "num"]];
  const rows = jobs.map((job) =>
    h(
      "tr",
      { "data-key": job.id },
      h("td", {}, h("a.row-link", { href: `/jobs/${job.id}`, title: job.id }, job.name || job.id)),
      h("td", {}, chip(job.state)),
      h("td", {}, instant(job.finished_at)),
      h("td.num", {}, seconds(job.tookS)),
      h("td.num", {}, seconds(job.admittedS)),
      h("td.num", {}, seconds(job.admittedP95S)),
      h("td", {}, job.tookS <= job.admittedP95S ? h("span.good", {}, "within") : h("span.bad", {}, "beyond")),
      h("td.num", {}, number(job.accuracy, percent)),
      h("td.num", {}, number(job.admittedAccuracy, percent)),
      h("td.num", {}, job.accuracy === null ? "–" : signedPoints(job.accuracy - job.admittedAccuracy)),
      h("td.num", {}, number(job.num_problems, count)),
    ),
  );
  return table("Latest completed jobs", columns, rows);
}
