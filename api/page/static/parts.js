// Problems of a job with deadlines of their own: when each part is due, its split and its forecast.

import { h, table } from "./dom.js";
import { count, instant, number, percent, splitData } from "./format.js";
import { met } from "./overview.js";

const COLUMNS = [["Due"], ["Problems", "num"], ["Split"], ["Finish, 95%: at admission"], ["Latest"], ["Accuracy", "num"], ["Deadline"]];

export function parts(job) {
  return table("Parts of the job", COLUMNS, job.parts.map((part, index) => row(job, part, index)));
}

function row(job, part, index) {
  return h(
    "tr",
    { "data-key": `part-${index}` },
    h("td", {}, instant(part.deadline_at)),
    h("td.num", {}, number(part.num_problems, count, "num_problems")),
    h("td", {}, splitData(part.plan)),
    h("td", {}, instant(part.admitted.finish_p95_at)),
    h("td", {}, instant(part.predicted?.finish_p95_at)),
    h("td.num", {}, number(part.predicted?.accuracy ?? part.admitted.accuracy, percent, "accuracy")),
    h("td", {}, part.at_risk ? h("span.warn", {}, `at risk: ${part.at_risk.reason.replaceAll("_", " ")}`) : met({ ...job, met_deadline: part.met_deadline })),
  );
}
