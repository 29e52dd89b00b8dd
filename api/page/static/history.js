// History: reports over a range, by group, as charts and as the numbers behind them. Range, group,
// filter and percentile are in the address.

import { parameters } from "./address.js";
import { call, withQuery } from "./api.js";
import { empty, h, keep, panel, show } from "./dom.js";
import { rangeControls, rangeOf } from "./range.js";
import { REPORTS } from "./reports.js";
import { chart } from "./charts.js";
import { notify } from "./notice.js";

const HOURS_MS = 3 * 86400 * 1000;

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
    const asked = { start, end, model, group_by: group || null };
    const found = await Promise.all(
      REPORTS.map((report) => call(withQuery(`/v1/reports/${report.name}`, report.isOverTime ? { ...asked, every } : asked), { signal })),
    );
    if (own !== turn) return;
    render(found, { percentile, isGrouped: Boolean(group) });
  }

  function render(found, asked) {
    const views = REPORTS.flatMap((report, index) => report.views(found[index], asked));
    const hasData = found.some((report) => report.data.length);
    const controls = rangeControls({ models, onChange: () => read().catch((error) => notify(error.message)) });
    show(
      main,
      h("h1", { "data-key": "title" }, "History"),
      panel("Range", controls),
      hasData
        ? [
            h("div.charts", { "data-key": "charts" }, views.map((view) => panel(view.title, keep(plotOf(view.title)), view.note ? h("p.dim", {}, view.note) : null))),
            REPORTS.map((report, index) => panel(`${report.title} in numbers`, report.numbers(found[index]))),
          ]
        : panel("Nothing here", empty("Nothing ended in this range.", "Choose a longer range above, or ", h("a", { href: "/quote" }, "submit a job"), ".")),
    );
    if (!hasData) return;
    for (const view of views) chart(plotOf(view.title), view.label, view.build, signal).catch((error) => notify(error.message));
  }

  await read();
}
