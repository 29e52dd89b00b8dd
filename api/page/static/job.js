// One job: how it stands, its forecast against what came, its timeline, problems and decisions.

import { parameters, setParameters } from "./address.js";
import { call } from "./api.js";
import { ask } from "./ask.js";
import { h, keep, panel, show, table } from "./dom.js";
import { explanation } from "./explanation.js";
import { between, chip, count, decimal, instant, number, percent, seconds, signedPoints, signedSeconds, splitData } from "./format.js";
import { keepReading } from "./live.js";
import { notify } from "./notice.js";
import { met, progress, slack } from "./overview.js";
import { parts } from "./parts.js";
import { problems } from "./problems.js";
import { timeline } from "./timeline.js";

export async function enter(main, { params: [jobId], signal }) {
  document.title = `${jobId} · Slackline`;
  const path = `/v1/jobs/${encodeURIComponent(jobId)}`;
  let job = await call(path, { signal });
  document.title = `${job.name || job.id} · Slackline`;

  const { from, to } = parameters();
  const view = from !== undefined && to !== undefined && Number(to) > Number(from) ? { from: Number(from), to: Number(to) } : { from: null, to: null };
  const listed = problems(job, { signal });
  const branches = timeline(job, view, {
    signal,
    onMove: ({ from: first, to: last }) => setParameters({ from: first?.toFixed(4) ?? null, to: last?.toFixed(4) ?? null }),
    onOpen: (position) => listed.open(position),
  });
  const decisions = explanation(job, { signal });

  const cancel = async () => {
    if (!(await ask(`Cancel ${job.name || "this job"}?`, "Answers that it has are kept; open problems are not answered.", "Cancel the job"))) return;
    try {
      job = await call(`${path}/cancel`, { method: "POST", signal });
      render();
    } catch (error) {
      notify(error.message);
    }
  };

  function render() {
    show(
      main,
      head(job, cancel),
      h("div.columns", { "data-key": "state" }, panel("State", facts(job)), panel("Forecast against actual", forecast(job))),
      job.parts.length ? panel("Problems due sooner", parts(job)) : null,
      panel("Timeline", keep(branches.element)),
      panel("Problems", keep(listed.element)),
      panel("Why it runs like this", keep(decisions.element)),
    );
  }

  render();
  let isFirst = true;
  keepReading(
    async () => {
      if (!isFirst) job = await call(path, { signal });
      isFirst = false;
      render();
      // These two may take long for a large job, and pace themselves. The last read waits for them.
      const slow = [branches, decisions].map((each) => each.refresh(job));
      const isOver = job.finished_at !== null;
      if (!isOver) for (const each of slow) each.catch((error) => signal.aborted || notify(error.message));
      await Promise.all([listed.refresh(job), ...(isOver ? slow : [])]);
      return !isOver;
    },
    { everyS: 1, streamedS: 3, stream: `${path}/events`, signal },
  );
}

function head(job, cancel) {
  const isLive = job.finished_at === null;
  return h(
    "div.head",
    { "data-key": "head" },
    h("h1", {}, job.name || job.id),
    chip(job.state),
    job.met_deadline === null ? null : met(job),
    job.at_risk ? h("span.warn", {}, `at risk: ${job.at_risk.reason.replaceAll("_", " ")}`) : null,
    h("span.grow"),
    isLive ? h("button.danger", { type: "button", onclick: cancel, disabled: job.state === "cancelling" }, job.state === "cancelling" ? "Cancelling…" : "Cancel job") : null,
  );
}

function facts(job) {
  const fact = (title, value) => [h("dt", {}, title), h("dd", {}, value)];
  const groups = [
    ["Progress", progress(job)],
    job.finished_at === null ? ["Slack", slack(job)] : ["Before the deadline", number(between(job.finished_at, job.deadline_at), signedSeconds, "before_s")],
    ["Deadline", instant(job.deadline_at)],
    ["Submitted", instant(job.created_at)],
    ["Split", splitData(job.plan)],
    ["Token cap", number(job.plan?.max_tokens ?? null, count, "max_tokens")],
    ["Mean acceptance length", number(job.mean_acceptance_length, decimal, "mean_acceptance_length")],
    ["Cut short by the deadline", number(job.degraded, count, "degraded")],
    ["Model", job.model],
    ["Kind of problems", job.family],
    ["Verdict", job.promised ? job.verdict.replace("_", ", ") : "best effort, not promised"],
    ["Id", h("code", {}, job.id)],
  ];
  const failure = job.error ? h("p.error-line", {}, job.error) : null;
  return [h("dl.facts", {}, groups.map(([title, value]) => h("div", { "data-key": title }, fact(title, value)))), failure];
}

function forecast(job) {
  const since = (at) => (at ? between(job.created_at, at) : null);
  const { admitted, predicted } = job;
  const took = since(job.finished_at);
  const row = (title, first, latest, actual, off) => h("tr", { "data-key": title }, h("th", { scope: "row" }, title), h("td.num", {}, first), h("td.num", {}, latest), h("td.num", {}, actual), h("td.num", {}, off));
  const time = (value, name) => number(value, seconds, name);
  const [medianS, p95S] = [since(admitted.finish_at), since(admitted.finish_p95_at)];
  const rows = [
    row("Finish, median", time(medianS, "admitted_s"), time(since(predicted?.finish_at), "predicted_s"), time(took, "took_s"), number(took === null ? null : took - medianS, signedSeconds, "off_s")),
    row("Finish, 95%", time(p95S, "admitted_p95_s"), time(since(predicted?.finish_p95_at), "predicted_p95_s"), time(took, "took_s"), took === null ? "–" : took <= p95S ? h("span.good", {}, "within") : h("span.bad", {}, "beyond")),
    row("Accuracy", number(admitted.accuracy, percent, "admitted_accuracy"), number(predicted?.accuracy ?? null, percent, "predicted_accuracy"), number(job.accuracy, percent, "accuracy"), number(job.accuracy === null ? null : job.accuracy - admitted.accuracy, signedPoints, "accuracy_off")),
  ];
  const basis = job.forecast_basis;
  return [
    table("Forecast against actual", [["Seconds from submission"], ["At admission", "num"], ["Latest", "num"], [job.finished_at ? "Actual" : "So far", "num"], ["Off by", "num"]], rows),
    basis ? h("p.dim", {}, "Rests on ", basis.source, ", ", number(basis.num_branches_seen, count, "num_branches_seen"), " branches of ", number(basis.num_problems_seen, count, "num_problems_seen"), " problems.", basis.note ? ` ${basis.note}` : "") : null,
  ];
}
