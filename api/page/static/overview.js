// Overview: live jobs by slack, the jobs that ended, workers, and how today went.

import { call, withQuery } from "./api.js";
import { bar, empty, h, panel, show, table, tile } from "./dom.js";
import { between, chip, count, instant, number, percent, seconds, signedSeconds, split } from "./format.js";
import { keepReading, rest } from "./live.js";
import { notify } from "./notice.js";

const SHOWN_LIVE = 50;
const SHOWN_ENDED = 20;
const TODAY_S = 2;
const REST = 10;
const NOTHING = { slo_attainment: null, num_jobs: 0, num_refused: 0 };

export async function enter(main, { signal }) {
  document.title = "Overview · Slackline";
  const after = new URLSearchParams(location.search).get("after");
  const midnight = new Date();
  midnight.setHours(0, 0, 0, 0);
  let shown = null;
  let today = null;
  let dueMs = 0;

  function render() {
    const [live, listed, workers] = shown;
    show(
      main,
      h("h1.sr-only", { "data-key": "title" }, "Overview"),
      tiles(live, workers.data, today),
      panel("Live jobs", liveJobs(live)),
      panel("Workers", workerTable(workers.data)),
      panel("Jobs by submission", jobTable(listed), pager(listed, after)),
    );
  }

  /** The report of the running day goes through its branches, so nothing else waits for it. */
  async function readToday() {
    const beganMs = performance.now();
    if (beganMs < dueMs) return;
    dueMs = Infinity;
    try {
      const report = await call(withQuery("/v1/reports/latency", { start: midnight.toISOString() }), { signal });
      today = report.data[0] ?? NOTHING;
      if (shown && !signal.aborted) render();
    } finally {
      dueMs = performance.now() + rest(REST, beganMs, 1000 * TODAY_S);
    }
  }

  const read = async () => {
    readToday().catch((error) => signal.aborted || notify(error.message));
    shown = await Promise.all([
      call(withQuery("/v1/jobs", { order: "slack", limit: SHOWN_LIVE }), { signal }),
      call(withQuery("/v1/jobs", { limit: SHOWN_ENDED, after }), { signal }),
      call("/v1/workers", { signal }),
    ]);
    render();
  };
  // Rows in use come with heartbeats, which are no events.
  keepReading(read, { everyS: 1, streamedS: 2, stream: "/v1/events", signal });
}

function tiles(live, workers, today) {
  const alive = workers.filter((worker) => worker.status === "alive");
  const used = alive.reduce((sum, worker) => sum + rowsOf(worker), 0);
  const waiting = alive.reduce((sum, worker) => sum + worker.num_running_branches - rowsOf(worker), 0);
  const rows = alive.reduce((sum, worker) => sum + worker.max_num_seqs, 0);
  const attainment = today?.slo_attainment ?? null;
  const atRisk = live.data.filter((job) => job.slack_s !== null && job.slack_s < 0).length;
  return h(
    "div.tiles",
    { "data-key": "tiles" },
    tile("Attainment today", number(attainment, percent, "slo_attainment"), today === null ? "being summed up" : attainment === null ? "no promised job ended yet" : "of promised jobs in time", attainment === null ? "" : attainment < 0.95 ? "warn" : "good"),
    tile("Jobs ended today", number(today?.num_jobs ?? null, count, "num_jobs"), [number(today?.num_refused ?? null, count, "num_refused"), " refused"]),
    tile("Live jobs", live.has_more ? `${SHOWN_LIVE}+` : number(live.data.length, count, "num_live"), atRisk ? `${count(atRisk)} behind their deadline` : "none behind its deadline", atRisk ? "bad" : ""),
    tile("Rows in use", [number(used, count, "num_rows"), " / ", number(rows, count, "max_rows")], [`on ${count(alive.length)} ${alive.length === 1 ? "worker" : "workers"}`, waiting ? [", ", number(waiting, count, "num_waiting"), " branches wait"] : null]),
  );
}

function liveJobs(page) {
  if (!page.data.length) {
    return empty("No job is live.", "Submit one with ", h("code", {}, "slackline submit problems.jsonl --deadline 1m"), " or from a ", h("a", { href: "/quote" }, "quote"), ".");
  }
  const columns = [["Job"], ["State"], ["Slack", "num"], ["Time left", "num"], ["Progress", "wide"], ["Split"], ["Predicted accuracy", "num"], ["Model"]];
  const rows = page.data.map((job) =>
    h(
      "tr",
      { "data-key": job.id },
      h("td", {}, jobLink(job)),
      h("td", {}, chip(job.state)),
      h("td.num", {}, slack(job)),
      h("td.num", {}, number(job.time_left_s, seconds, "time_left_s")),
      h("td.wide", {}, progress(job)),
      h("td", {}, split(job.plan)),
      h("td.num", {}, number(job.predicted?.accuracy ?? null, percent, "predicted_accuracy")),
      h("td", {}, job.model),
    ),
  );
  const more = page.has_more ? h("p.dim", {}, `The ${SHOWN_LIVE} with the least slack; more are live.`) : null;
  return [table("Live jobs, least slack first", columns, rows), more];
}

export function slack(job) {
  const kind = job.slack_s === null ? "" : job.slack_s < 0 ? "bad" : job.slack_s < 0.1 * between(job.created_at, job.deadline_at) ? "warn" : "good";
  return h("span", { class: kind }, number(job.slack_s, signedSeconds, "slack_s"));
}

export function progress(job) {
  const done = job.progress.answered + job.progress.expired + job.progress.failed + job.progress.cancelled;
  return h("span.progress", {}, bar(done / job.num_problems), h("span.of", {}, number(done, count, "num_done"), " / ", number(job.num_problems, count, "num_problems")));
}

function jobLink(job) {
  return h("a.row-link", { href: `/jobs/${job.id}`, title: job.id }, job.name || job.id);
}

function jobTable(page) {
  if (!page.data.length) return empty("No job was ever submitted.", "The first one appears here; ", h("a", { href: "/quote" }, "ask for a quote"), " to see what a deadline buys.");
  const columns = [["Job"], ["State"], ["Deadline"], ["Submitted"], ["Took", "num"], ["Problems", "num"], ["Accuracy", "num"], ["Split"], ["Model"]];
  const rows = page.data.map((job) =>
    h(
      "tr",
      { "data-key": job.id },
      h("td", {}, jobLink(job)),
      h("td", {}, chip(job.state)),
      h("td", {}, met(job)),
      h("td", {}, instant(job.created_at)),
      h("td.num", {}, number(job.finished_at ? between(job.created_at, job.finished_at) : null, seconds, "took_s")),
      h("td.num", {}, number(job.num_problems, count, "num_problems")),
      h("td.num", {}, number(job.accuracy, percent, "accuracy")),
      h("td", {}, split(job.plan)),
      h("td", {}, job.model),
    ),
  );
  return table("Jobs, newest first", columns, rows);
}

export function met(job) {
  if (job.met_deadline === true) return h("span.good", {}, "met");
  if (job.met_deadline === false) return h("span.bad", {}, job.promised ? "missed" : "missed, best effort");
  return h("span.dim", {}, job.finished_at ? "–" : "open");
}

function pager(page, after) {
  return h(
    "p.pager",
    {},
    after ? h("a", { href: "/" }, "Newest") : null,
    page.next_after ? h("a", { href: withQuery("/", { after: page.next_after }) }, "Older") : null,
  );
}

function workerTable(workers) {
  if (!workers.length) return empty("No worker has registered.", "Start one with ", h("code", {}, "slackline worker"), ", or everything with ", h("code", {}, "slackline up"), ".");
  const columns = [["Worker"], ["Status"], ["Rows in use", "wide"], ["Model"], ["Engine"], ["Drafts"], ["Context", "num"], ["Last sign of life"]];
  const running = workers.filter((worker) => worker.status !== "stopped");
  const stopped = workers.filter((worker) => worker.status === "stopped");
  const listed = (which, title) => table(title, columns, which.map(workerRow));
  return [
    running.length ? listed(running, "Workers") : empty("No worker runs.", "Start one with ", h("code", {}, "slackline worker"), "."),
    stopped.length ? h("details", {}, h("summary", {}, `${count(stopped.length)} stopped`), listed(stopped, "Stopped workers")) : null,
  ];
}

/** A worker holds more branches than it has rows: the others wait in its engine. */
const rowsOf = (worker) => Math.min(worker.num_running_branches, worker.max_num_seqs);

function workerRow(worker) {
  return h(
    "tr",
    { "data-key": worker.name },
    h("td", {}, worker.name),
    h("td", {}, chip(worker.status)),
    h("td.wide", {}, h("span.progress", {}, bar(rowsOf(worker) / worker.max_num_seqs), h("span.of", {}, number(rowsOf(worker), count, "rows"), " / ", number(worker.max_num_seqs, count, "max_num_seqs")))),
    h("td", {}, worker.model),
    h("td", {}, worker.engine),
    h("td", {}, worker.draft_lengths.join(", ")),
    h("td.num", {}, number(worker.max_model_len, count, "max_model_len")),
    h("td", {}, instant(worker.heartbeat_at)),
  );
}
