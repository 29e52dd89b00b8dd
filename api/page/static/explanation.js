// Why a job runs as it does: plans that were weighed, and every change with its reason.

import { call } from "./api.js";
import { empty, h, show, table } from "./dom.js";
import { branches, count, decimal, following, instant, number, percent, seconds } from "./format.js";
import { rest } from "./live.js";

const EVERY_S = 5;
/** It costs a decision, and counts the problems: so many times as long as it took lies between. */
const REST = 10;

/** The explanation in an element of its own, read less often than the job. */
export function explanation(job, { signal }) {
  const element = h("div", { "data-keep": "explanation" });
  let dueMs = 0;
  let readState = null;
  let turn = 0;
  return {
    element,
    async refresh(fresh) {
      const beganMs = performance.now();
      if (beganMs < dueMs && readState === fresh.state) return;
      readState = fresh.state;
      const own = ++turn;
      dueMs = Infinity;
      try {
        const found = await call(`/v1/jobs/${job.id}/explain`, { signal });
        if (own === turn) render(element, found);
      } catch (error) {
        if (own === turn) readState = null;
        throw error;
      } finally {
        if (own === turn) dueMs = performance.now() + rest(REST, beganMs, 1000 * EVERY_S);
      }
    },
  };
}

function render(element, found) {
  show(
    element,
    found.now ? decision("Now", found.now) : null,
    found.admission ? decision("At submission", found.admission) : null,
    h("h3", {}, "History"),
    found.history.length ? history(found) : empty("Nothing has happened yet.", "Each change of the job or its plan is listed here."),
  );
}

function decision(title, made) {
  const value = (name, format) => number(made[name], format, name);
  const facts = [value("num_problems", count), " problems, ", value("rows", count), " rows, ", value("time_left_s", seconds), " left less a reserve of ", value("reserve_s", seconds), "; ahead: ", value("num_jobs_ahead", count), made.num_jobs_ahead === 1 ? " job, " : " jobs, ", value("ahead_s", seconds), " of work"];
  const columns = [["Branches", "num"], ["Draft", "num"], ["Tokens", "num"], ["Needs", "num"], ["Accuracy", "num"], ["Row-seconds", "num"], ["Why, or why not"]];
  const rows = made.candidates.map((plan) =>
    h(
      "tr",
      { "data-key": `${branches(plan)}-${plan.num_speculative_tokens}-${plan.max_tokens}`, class: plan.fate === "chosen" ? "selected total" : null },
      h("td.num", {}, number(plan.num_branches, count), following(plan)),
      h("td.num", {}, number(plan.num_speculative_tokens, count)),
      h("td.num", {}, number(plan.max_tokens, count)),
      h("td.num", {}, number(plan.needed_s, seconds)),
      h("td.num", {}, number(plan.accuracy, percent)),
      h("td.num", {}, number(plan.row_seconds, (value) => (value < 100 ? decimal(value) : count(Math.round(value))))),
      h("td", {}, plan.why),
    ),
  );
  return h(
    "div",
    { "data-key": title },
    h("h3", {}, title),
    h("p", {}, made.why),
    h("p.dim", {}, facts),
    h("details", {}, h("summary", {}, `Plans that were weighed: ${count(made.candidates.length)} of ${count(made.num_candidates)} shown, ${count(made.num_in_time)} in time`), table(`Plans weighed, ${title.toLowerCase()}`, columns, rows)),
  );
}

function history(found) {
  const rows = found.history.map((event, index) => h("tr", { "data-key": `e${index}` }, h("td", {}, instant(event.at)), h("td.text", {}, event.what)));
  return [table("History", [["When"], ["What"]], rows), found.history_has_more ? h("p.dim", {}, "The first events; the API has all of them.") : null];
}
