// The problems of a job in pages, and one of them open with its votes and branches.

import { parameters, setParameters } from "./address.js";
import { call, withQuery } from "./api.js";
import { bar, empty, h, show, table } from "./dom.js";
import { chip, count, number, percent, seconds, verdict } from "./format.js";
import { notify } from "./notice.js";

const PAGE = 25;

/** The list in an element of its own; the page and the open problem are in the address. */
export function problems(job, { signal }) {
  const element = h("div", { "data-keep": "problems" });
  const path = `/v1/jobs/${job.id}`;
  let page = null;
  let opened = null;

  const first = () => Math.max(0, Number(parameters().first) || 0);

  async function load() {
    const { problem } = parameters();
    [page, opened] = await Promise.all([
      call(withQuery(`${path}/results`, { after: first() - 1, limit: PAGE }), { signal }),
      /^\d+$/.test(problem ?? "") ? call(`${path}/problems/${problem}`, { signal }) : null,
    ]);
    render();
  }

  function go(changes) {
    setParameters(changes, { remember: true });
    return load().catch((error) => notify(error.message));
  }

  async function open(position) {
    await go({ problem: position });
    element.querySelector(".opened h3")?.focus();
  }

  function render() {
    const last = page.data.at(-1)?.position ?? 0;
    show(
      element,
      page.data.length
        ? table("Problems in the order of submission", [["Problem"], ["State"], ["Answer"], ["Votes for it", "wide"], ["Grade"], ["Branches", "num"], [""]], page.data.map(row))
        : empty("No problem here.", h("a", { href: path.replace("/v1", "") }, "Go to the first one.")),
      h(
        "p.pager",
        { "data-key": "pager" },
        h("button", { type: "button", disabled: first() === 0, onclick: () => go({ first: Math.max(0, first() - PAGE) || null }) }, "Earlier problems"),
        h("button", { type: "button", disabled: !page.has_more, onclick: () => go({ first: last + 1 }) }, "Later problems"),
        h("span.dim", {}, page.data.length ? `${count(page.data[0].position + 1)} to ${count(last + 1)} of ${count(job.num_problems)}` : ""),
        job.num_problems > PAGE ? goTo() : null,
      ),
      opened ? detail(opened, () => go({ problem: null })) : null,
    );
  }

  /** Among a million problems nobody turns pages. */
  function goTo() {
    const jump = (event) => {
      const number = Math.min(Math.max(1, Math.round(Number(event.target.value))), job.num_problems);
      if (number) go({ first: number - 1 || null });
    };
    return h("label", {}, "From problem ", h("input.short", { type: "number", min: "1", max: String(job.num_problems), value: String(first() + 1), onchange: jump }));
  }

  function row(result) {
    const choose = (event) => {
      event.preventDefault();
      open(result.position);
    };
    const isOpen = opened?.position === result.position;
    return h(
      "tr",
      { "data-key": `p${result.position}`, class: isOpen ? "selected" : null },
      h("td", {}, h("a.row-link", { href: withQuery(location.pathname, { ...parameters(), problem: result.position }), onclick: choose, "aria-expanded": String(isOpen) }, result.id)),
      h("td", {}, chip(result.state)),
      h("td.text", {}, result.answer === null ? "–" : h("code", {}, result.answer)),
      h("td.wide", {}, h("span.progress", {}, bar(result.vote_share), h("span.of", {}, number(result.vote_share, percent, "vote_share")))),
      h("td", {}, verdict(result.is_correct)),
      h("td.num", {}, number(result.num_branches_finished, count, "num_branches_finished"), " / ", number(result.num_branches_planned, count, "num_branches_planned")),
      h("td", {}, result.degraded ? h("span.warn", {}, "cut short") : (result.error ?? "")),
    );
  }

  return {
    element,
    open,
    refresh(fresh) {
      job = fresh;
      return load();
    },
  };
}

function detail(problem, close) {
  return h(
    "article.opened",
    { "data-key": `open-${problem.position}`, "aria-label": `Problem ${problem.id}` },
    h("div.head", {}, h("h3", { tabindex: "-1" }, `Problem ${problem.id}`), h("span.grow"), h("button", { type: "button", onclick: close }, "Close")),
    h("pre", { tabindex: "0", class: "prompt" }, problem.prompt),
    h("p", {}, "Reference ", problem.reference_answer === null ? h("span.dim", {}, "none") : h("code", {}, problem.reference_answer), problem.grade_reason ? h("span.dim", {}, ` · ${problem.grade_reason}`) : null),
    h(
      "div.columns",
      {},
      h("section", {}, h("h3", {}, "Votes"), votes(problem)),
      h("section", {}, h("h3", {}, "Branches"), branches(problem)),
    ),
  );
}

function votes(problem) {
  if (!problem.votes.length) return empty("No vote yet.", "A branch votes when it ends with an answer.");
  const rows = problem.votes.map((vote, index) =>
    h(
      "tr",
      { "data-key": `v${index}` },
      h("td.text", {}, h("code", {}, vote.answer)),
      h("td.wide", {}, h("span.progress", {}, bar(vote.share, vote.wins ? "wins" : ""), h("span.of", {}, number(vote.num_votes, count, "num_votes"), " · ", number(vote.share, percent, "share")))),
      h("td", {}, verdict(vote.is_correct)),
      h("td", {}, vote.wins ? "wins" : ""),
    ),
  );
  return table("Votes", [["Answer"], ["Votes", "wide"], ["Grade"], [""]], rows);
}

function branches(problem) {
  if (!problem.branches.length) return empty("No branch has ended yet.", "Branches are stored when they end.");
  const columns = [["#", "num"], ["Ended by"], ["Answer"], ["Waited", "num"], ["First token", "num"], ["Decode", "num"], ["Tokens", "num"], ["Draft", "num"], ["Text"]];
  const rows = problem.branches.map((branch) =>
    h(
      "tr",
      { "data-key": `b${branch.branch_index}` },
      h("td.num", {}, number(branch.branch_index, count, "branch_index")),
      h("td", {}, branch.finish_reason),
      h("td.text", {}, branch.answer === null ? "–" : h("code", {}, branch.answer), " ", branch.is_correct === null ? null : verdict(branch.is_correct)),
      h("td.num", {}, number(branch.queue_time_s, seconds, "queue_time_s")),
      h("td.num", {}, number(branch.ttft_s, seconds, "ttft_s")),
      h("td.num", {}, number(branch.decode_time_s, seconds, "decode_time_s")),
      h("td.num", {}, number(branch.completion_tokens, count, "completion_tokens")),
      h("td.num", {}, number(branch.num_speculative_tokens, count, "num_speculative_tokens")),
      h("td.text", {}, h("details", {}, h("summary", {}, "show"), h("pre", { tabindex: "0" }, branch.text || branch.error || ""))),
    ),
  );
  return table("Branches", columns, rows);
}
