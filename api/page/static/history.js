// History: reports over a range, by group, as charts and as the numbers behind them. Range, group,
// filter, percentile and what to compare with are in the address.

import { parameters } from "./address.js";
import { call, withQuery } from "./api.js";
import { chart } from "./charts.js";
import { comparisonTable, earlier, readComparisons } from "./comparison.js";
import { empty, h, keep, panel, show, tile } from "./dom.js";
import { count, number, percent, seconds, signedSeconds } from "./format.js";
import { notify } from "./notice.js";
import { rangeControls, rangeOf } from "./range.js";
import { REPORTS } from "./reports.js";

const HOURS_MS = 3 * 86400 * 1000;
const OPEN_ROWS = 12;

export async function enter(main, { signal }) {
  document.title = "History · Slackline";
  const plots = new Map();
  const plotOf = (name) => {
    if (!plots.has(name)) plots.set(name, h("div.chart", { "data-keep": `chart-${name}` }));
    return plots.get(name);
  };
  const { data: workers } = await call("/v1/workers", { signal });
  const models = [...new Set(workers.map((worker) => worker.model))];
  let turn = 0;

  async function read() {
    const own = ++turn;
    const { group, model, percentile = "p90" } = parameters();
    const [start, end] = rangeOf(parameters());
    const every = new Date(end ?? Date.now()) - new Date(start) <= HOURS_MS ? "hour" : "day";
    const range = { start, end, model };
    const asked = { ...range, group_by: group || null };
    const before = earlier(parameters(), [start, end]);
    const [found, attainment, latency, comparisons] = await Promise.all([
      Promise.all(REPORTS.map((report) => call(withQuery(`/v1/reports/${report.name}`, report.isOverTime ? { ...asked, every } : asked), { signal }))),
      call(withQuery("/v1/reports/attainment", range), { signal }),
      call(withQuery("/v1/reports/latency", range), { signal }),
      before && readComparisons(asked, before, signal),
    ]);
    if (own !== turn) return;
    const whole = { attainment: attainment.data[0], latency: latency.data[0] };
    render(found, { percentile, whole, comparisons });
  }

  function render(found, asked) {
    const hasData = found.some((report) => report.data.length);
    const sections = REPORTS.map((report, index) => ({ ...report, found: found[index], shown: report.views(found[index], asked) }));
    const controls = rangeControls({ models, isHistory: true, onChange: () => read().catch((error) => notify(error.message)) });
    show(
      main,
      h("h1", { "data-key": "title" }, "History"),
      panel("Range", controls),
      hasData
        ? [
            tiles(asked.whole),
            asked.comparisons ? panel("Comparison", comparisonTable(asked.comparisons)) : null,
            sections.map(({ title, name, found: report, shown, numbers }) =>
              h(
                "section.report",
                { "data-key": name, "aria-label": title },
                h("h2", {}, title),
                h("div.charts", {}, shown.map((view) => panel(view.title, keep(plotOf(view.title)), view.note ? h("p.dim", {}, view.note) : null))),
                h("details.panel.numbers", { open: report.data.length <= OPEN_ROWS }, h("summary", {}, `${title} in numbers`), numbers(report)),
              ),
            ),
          ]
        : panel("Nothing here", empty("Nothing ended in this range.", "Choose a longer range above, or ", h("a", { href: "/quote" }, "submit a job"), ".")),
    );
    if (!hasData) return;
    for (const { shown } of sections) {
      for (const view of shown) chart(plotOf(view.title), view.label, view.build, signal).catch((error) => notify(error.message));
    }
  }

  await read();
}

/** The whole range in a line. */
function tiles({ attainment, latency }) {
  if (!attainment || !latency) return null;
  const { slo_attainment: met } = attainment;
  const interval = met.value === null ? "no promised job ended" : ["95% interval ", number(met.low, percent, "slo_attainment.low"), " to ", number(met.high, percent, "slo_attainment.high")];
  return h(
    "div.tiles",
    { "data-key": "tiles" },
    tile("Deadlines met", number(met.value, percent, "slo_attainment.value"), interval, met.value === null ? "" : met.value < 0.95 ? "warn" : "good"),
    tile("Jobs ended", number(attainment.num_jobs, count, "num_jobs"), [number(attainment.num_refused, count, "num_refused"), " refused, ", number(attainment.num_expired, count, "num_expired"), " expired"]),
    tile("Lateness, P90", number(attainment.lateness_s.p90, signedSeconds, "lateness_s.p90"), ["P50 ", number(attainment.lateness_s.p50, signedSeconds, "lateness_s.p50"), "; negative is early"]),
    tile("Branches", number(latency.num_branches, count, "num_branches"), ["P50 ", number(latency.e2e_latency_s.p50, seconds, "e2e_latency_s.p50"), ", P90 ", number(latency.e2e_latency_s.p90, seconds, "e2e_latency_s.p90")]),
    tile("Time per token, P50", number(latency.tpot_s.p50, seconds, "tpot_s.p50"), ["P90 ", number(latency.tpot_s.p90, seconds, "tpot_s.p90")]),
  );
}
