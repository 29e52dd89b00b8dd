// History: how long stages took and how many deadlines were met, over a range that the address has.

import { parameters } from "./address.js";
import { call, withQuery } from "./api.js";
import { chart } from "./charts.js";
import { empty, h, keep, panel, show, table } from "./dom.js";
import { count, number, percent, seconds } from "./format.js";
import { rangeControls, rangeOf } from "./range.js";
import { notify } from "./notice.js";

const GROUPS = [["none", "nothing"], ["hour", "hour"], ["model", "model"], ["tenant", "tenant"]];
const STAGES = [["queue_time_s", "Queue time"], ["ttft_s", "Time to first token"], ["tpot_s", "Time per output token"], ["e2e_latency_s", "Whole branch"]];

export async function enter(main, { signal }) {
  document.title = "History · Slackline";
  const plots = new Map();
  const plotOf = (name) => {
    if (!plots.has(name)) plots.set(name, h("div.chart", { "data-keep": `chart-${name}` }));
    return plots.get(name);
  };

  async function read() {
    const { group = "hour", model } = parameters();
    const [start, end] = rangeOf(parameters());
    const [report, workers] = await Promise.all([
      call(withQuery("/v1/reports/latency", { start, end, group_by: group === "none" ? null : group, model }), { signal }),
      call("/v1/workers", { signal }),
    ]);
    const models = [...new Set(workers.data.map((worker) => worker.model))];
    render(report, models);
  }

  function render(report, models) {
    const rows = report.data;
    const isTime = report.group_by === "hour";
    const controls = rangeControls({ groups: GROUPS, models, onChange: () => read().catch((error) => notify(error.message)) });
    const hasData = rows.some((row) => row.num_branches || row.num_jobs || row.num_refused);
    show(
      main,
      h("h1", { "data-key": "title" }, "History"),
      panel("Range", controls),
      hasData
        ? [
            h("div.charts", { "data-key": "charts" }, panel("Deadlines met", keep(plotOf("attainment"))), ...STAGES.map(([name, title]) => panel(title, keep(plotOf(name))))),
            panel("Numbers", numbers(report)),
          ]
        : panel("Nothing here", empty("No branch ended and no job was submitted in this range.", "Choose a longer range above, or ", h("a", { href: "/quote" }, "submit a job"), ".")),
    );
    if (!hasData) return;
    const x = rows.map((row) => row.group ?? "all");
    const draw = (name, label, build) => chart(plotOf(name), label, build, signal).catch((error) => notify(error.message));
    draw("attainment", "Fraction of promised jobs that met their deadline", (colors) => ({
      traces: [series(isTime, x, rows.map((row) => row.slo_attainment), "in time", colors.good)],
      layout: { yaxis: { tickformat: ".0%", range: [0, 1.05] }, xaxis: axis(isTime), showlegend: false },
    }));
    for (const [name, title] of STAGES) {
      draw(name, `${title}, percentiles`, (colors) => ({
        traces: ["p50", "p90", "p99"].map((percentile) => series(isTime, x, rows.map((row) => row[name][percentile]), percentile.toUpperCase(), colors[percentile])),
        layout: { yaxis: { title: { text: "seconds" }, rangemode: "tozero" }, xaxis: axis(isTime), barmode: "group" },
      }));
    }
  }

  await read();
}

const axis = (isTime) => (isTime ? { type: "date" } : { type: "category" });

function series(isTime, x, y, name, color) {
  if (isTime) return { type: "scatter", mode: "lines+markers", x, y, name, line: { color, width: 2 }, marker: { color, size: 5 }, connectgaps: false };
  return { type: "bar", x, y, name, marker: { color } };
}

function numbers(report) {
  const columns = [[report.group_by ?? "group"], ["Branches", "num"], ["Jobs", "num"], ["In time", "num"], ["Refused", "num"], ...STAGES.flatMap(([, title]) => [[`${title} P50`, "num"], ["P90", "num"], ["P99", "num"]])];
  const rows = report.data.map((row) =>
    h(
      "tr",
      { "data-key": row.group ?? "all" },
      h("td", {}, row.group === null ? "all" : report.group_by === "hour" ? new Date(row.group).toLocaleString() : row.group),
      h("td.num", {}, number(row.num_branches, count, "num_branches")),
      h("td.num", {}, number(row.num_jobs, count, "num_jobs")),
      h("td.num", {}, number(row.slo_attainment, percent, "slo_attainment")),
      h("td.num", {}, number(row.num_refused, count, "num_refused")),
      STAGES.map(([name]) => ["p50", "p90", "p99"].map((percentile) => h("td.num", {}, number(row[name][percentile], seconds, `${name}.${percentile}`)))),
    ),
  );
  return table("Numbers of the charts", columns, rows);
}
