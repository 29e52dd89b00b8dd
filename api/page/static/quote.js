// What a deadline buys: drag it and see the accuracy, then submit with it.

import { parameters, setParameters } from "./address.js";
import { call } from "./api.js";
import { chart, durationAxis } from "./charts.js";
import { empty, h, keep, panel, show, table } from "./dom.js";
import { count, following, number, percent, seconds, splitData } from "./format.js";
import { forget, notify } from "./notice.js";
import { readProblems } from "./problem_text.js";

const STEPS = 400;

export async function enter(main, { signal }) {
  document.title = "Quote · Slackline";
  const { data: workers } = await call("/v1/workers", { signal });
  const models = [...new Set(workers.filter((worker) => worker.status !== "stopped").map((worker) => worker.model))];
  const asked = parameters();
  const state = {
    model: asked.model ?? models[0] ?? "",
    num: asked.num ?? "200",
    chars: asked.chars ?? "150",
    deadlineS: Number(asked.deadline) || null,
    text: "",
    quote: null,
    exact: null,
  };
  const plot = h("div.chart.tall", { "data-keep": "chart" });
  let turn = 0;

  /** What is quoted: the problems, or only how many there are. */
  function body() {
    if (state.text.trim()) return { model: state.model, problems: readProblems(state.text) };
    return { model: state.model, num_problems: Number(state.num), prompt_chars: Number(state.chars) };
  }

  async function ask(extra = {}) {
    const own = ++turn;
    try {
      const found = await call("/v1/quotes", { method: "POST", body: JSON.stringify({ ...body(), ...extra }), signal });
      forget();
      return own === turn ? found : null;
    } catch (error) {
      if (!signal.aborted) notify(error.message);
      return null;
    }
  }

  async function quote() {
    const found = await ask();
    if (!found) return;
    state.quote = found;
    state.exact = null;
    state.deadlineS ??= suggested(found);
    render();
    await drawChart();
  }

  /** The deadline that was dragged to, quoted by itself. */
  async function quoteExactly() {
    setParameters({ deadline: state.deadlineS.toFixed(1) });
    const found = await ask({ deadlines: [`${state.deadlineS.toFixed(1)}s`] });
    if (!found) return;
    state.exact = found.deadlines[0];
    render();
    await drawChart();
  }

  function range() {
    const points = state.quote.deadlines;
    return [Math.max(1, 0.8 * state.quote.earliest_finish_s), 1.4 * points.at(-1).deadline_s];
  }

  const toStep = (valueS) => {
    const [low, high] = range();
    return Math.round((STEPS * Math.log(valueS / low)) / Math.log(high / low));
  };
  const fromStep = (step) => {
    const [low, high] = range();
    return Number((low * (high / low) ** (step / STEPS)).toFixed(1));
  };

  function drag(event) {
    state.deadlineS = fromStep(Number(event.target.value));
    state.exact = null;
    render();
    drawChart().catch(() => null);
  }

  /** The best quoted point that the deadline reaches, until the deadline itself is quoted. */
  function chosen() {
    if (state.exact) return state.exact;
    return state.quote.deadlines.filter((point) => point.feasible && point.deadline_s <= state.deadlineS + 1e-6).at(-1) ?? null;
  }

  async function submit() {
    try {
      const job = await call("/v1/jobs", { method: "POST", body: JSON.stringify({ ...body(), deadline: `${state.deadlineS.toFixed(1)}s` }), signal });
      history.pushState(null, "", `/jobs/${job.id}`);
      dispatchEvent(new PopStateEvent("popstate"));
    } catch (error) {
      notify(error.message);
    }
  }

  function drawChart() {
    return chart(
      plot,
      "Expected accuracy against the deadline",
      (colors) => {
        const points = state.quote.deadlines.filter((point) => point.feasible);
        const point = chosen();
        const bought = point?.feasible ? [point.accuracy] : [];
        return {
          traces: [
            { x: points.map((each) => each.deadline_s), y: points.map((each) => each.accuracy), mode: "lines+markers", line: { shape: "hv", color: colors.decode, width: 2 }, marker: { size: 5 }, name: "accuracy", meta: { field: "accuracy", list: "deadlines" }, hovertemplate: "%{y:.1%} by %{x:.1f} s<extra></extra>" },
            { x: bought.map(() => state.deadlineS), y: bought, mode: "markers", marker: { size: 12, color: colors.p99, line: { color: colors.card, width: 2 } }, name: "chosen", hovertemplate: "%{y:.1%}<extra></extra>" },
          ],
          layout: {
            showlegend: false,
            hovermode: "closest",
            // As wide as the slider below it.
            margin: { l: 72, r: 32, t: 16, b: 36 },
            xaxis: { ...durationAxis("", range()), automargin: false, range: range().map(Math.log10) },
            yaxis: { tickformat: ".0%", automargin: false, title: { text: "expected accuracy" } },
            shapes: [{ type: "line", x0: state.deadlineS, x1: state.deadlineS, y0: 0, y1: 1, yref: "paper", line: { color: colors.p99, width: 2 } }],
          },
        };
      },
      signal,
    );
  }

  function render() {
    show(main, h("h1", { "data-key": "title" }, "Quote"), panel("What is to be solved", form()), state.quote ? result() : null);
  }

  function form() {
    const field = (name, label, control) => h("div.field", {}, h("label", { for: name }, label), control);
    const set = (name) => (event) => {
      state[name] = event.target.value;
      setParameters({ [name]: name === "text" ? null : state[name] });
    };
    const numbers = (name) => h("input", { id: name, type: "number", min: "1", value: state[name], oninput: set(name), disabled: state.text.trim() !== "" });
    if (!models.length) return empty("Nobody serves a model.", "Start a worker first: ", h("code", {}, "slackline up"), ".");
    const choose = h("select", { id: "model", onchange: set("model") }, models.map((model) => h("option", { value: model }, model)));
    choose.value = state.model;
    return h(
      "form",
      {
        onsubmit: (event) => {
          event.preventDefault();
          state.deadlineS = null;
          quote();
        },
      },
      h("div.controls", {}, field("model", "Model", choose), field("num", "Problems", numbers("num")), field("chars", "Mean characters of a prompt", numbers("chars")), h("button.primary", {}, "Quote")),
      h(
        "details",
        {},
        h("summary", {}, "With the problems themselves, to submit them"),
        field("text", "One prompt per line, or JSON Lines as the command line takes them", h("textarea", { id: "text", spellcheck: "false", oninput: set("text") }, state.text)),
      ),
    );
  }

  function result() {
    const point = chosen();
    const hasProblems = state.text.trim() !== "";
    const fact = (title, value, kind = "") => h("div", { "data-key": title, class: kind || null }, h("dt", {}, title), h("dd", {}, value));
    const { quote: quoted } = state;
    return [
      panel(
        "What the deadline buys",
        h(
          "div.head",
          {},
          h(
            "dl.quoted",
            { "aria-live": "polite" },
            fact("Deadline", number(state.deadlineS, seconds, "deadline_s"), "main"),
            fact("Expected accuracy", point?.feasible ? number(point.accuracy, percent, "accuracy") : h("span.bad", {}, "cannot be met"), "main"),
            fact("Split", splitData(point?.feasible ? point : null)),
            fact("Done by, median", number(point?.finish_p50_s ?? null, seconds, "finish_p50_s")),
            fact("Done by, 95%", number(point?.finish_p95_s ?? null, seconds, "finish_p95_s")),
            fact("Earliest feasible", number(quoted.earliest_finish_s, seconds, "earliest_finish_s")),
          ),
          h("span.grow"),
          h("button.primary", { type: "button", onclick: submit, disabled: !hasProblems, title: hasProblems ? null : "Give the problems themselves above" }, `Submit ${count(quoted.num_problems)} ${quoted.num_problems === 1 ? "problem" : "problems"} with this deadline`),
        ),
        keep(plot),
        h("div.slider", {}, h("label", { for: "deadline" }, "Deadline: drag it"), h("input", { id: "deadline", type: "range", min: "0", max: STEPS, value: toStep(state.deadlineS), oninput: drag, onchange: quoteExactly, "aria-label": "Deadline", "aria-valuetext": seconds(state.deadlineS) })),
        quoted.forecast_basis.note ? h("p.warn", {}, quoted.forecast_basis.note) : null,
      ),
      panel("Deadlines quoted", frontier(quoted)),
    ];
  }

  render();
  if (models.length) await quote();
}

/** The shortest deadline that is within a point of the best accuracy. */
function suggested(quoted) {
  const feasible = quoted.deadlines.filter((point) => point.feasible);
  const best = Math.max(...feasible.map((point) => point.accuracy));
  return feasible.find((point) => point.accuracy >= best - 0.01)?.deadline_s ?? quoted.earliest_finish_s;
}

function frontier(quoted) {
  const columns = [["Deadline", "num"], ["Accuracy", "num"], ["Branches", "num"], ["Draft", "num"], ["Token cap", "num"], ["Finish, median", "num"], ["Finish, 95%", "num"], ["Row-seconds", "num"]];
  const rows = quoted.deadlines.map((point, index) =>
    h(
      "tr",
      { "data-key": `d${index}` },
      h("td.num", {}, number(point.deadline_s, seconds, "deadline_s")),
      h("td.num", {}, point.feasible ? number(point.accuracy, percent, "accuracy") : h("span.bad", {}, "too soon")),
      h("td.num", {}, number(point.num_branches, count, "num_branches"), following(point)),
      ...["num_speculative_tokens", "max_tokens"].map((name) => h("td.num", {}, number(point[name], count, name))),
      ...["finish_p50_s", "finish_p95_s"].map((name) => h("td.num", {}, number(point[name], seconds, name))),
      h("td.num", {}, number(point.row_seconds, (value) => count(Math.round(value)), "row_seconds")),
    ),
  );
  return table("Deadlines quoted", columns, rows);
}
