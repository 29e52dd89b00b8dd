// The timeline of a job: for each worker how many branches waited, prefilled and decoded, and, once
// the stretch in view has few enough, every branch in a row of its own.
//
// The server sums the stretch up in as many bins as the view has columns, so the cost here depends
// on the width of the window and not on the number of branches.

import { call, withQuery } from "./api.js";
import { h } from "./dom.js";
import { count } from "./format.js";
import { rest } from "./live.js";
import { draw, layOut } from "./timeline_canvas.js";
import { describe } from "./timeline_tip.js";

const LISTED = 2000;
const SHORTEST_S = 0.02;
/** A timeline of millions of branches takes seconds to sum up: so many times as long lies between. */
const REST = 10;

/**
 * A timeline in an element of its own.
 *
 * `view` holds `from` and `to` in seconds since the submission, or null for all; `onMove(view)` is
 * told of every change, `onOpen(position)` of a branch that was chosen.
 */
export function timeline(job, view, { onMove, onOpen, signal }) {
  const canvas = h("canvas", { "aria-hidden": "true" });
  const frame = h("div.timeline", { tabindex: "0", role: "group", "aria-label": "Timeline. Plus and minus zoom, arrows move, 0 shows all." }, canvas);
  const summary = h("p.dim", { "aria-live": "polite" });
  const tip = h("div.tip", { hidden: true });
  const buttons = [["Zoom in", () => zoom(0.5)], ["Zoom out", () => zoom(2)], ["Earlier", () => pan(-0.5)], ["Later", () => pan(0.5)], ["All", () => move(null, null)]];
  const element = h(
    "div",
    { "data-keep": "timeline" },
    h("div.controls", {}, h("div.group", { role: "group", "aria-label": "Stretch" }, buttons.map(([text, onclick]) => h("button", { type: "button", onclick }, text))), summary),
    frame,
    h("ul.legend", {}, ["waiting", "prefill", "decode", "aborted"].map((name) => h("li", {}, h(`span.swatch.${name}`), name))),
    tip,
  );
  const createdMs = Date.parse(job.created_at);
  let { from, to } = view;
  let endMs = Date.parse(job.finished_at ?? new Date().toISOString());
  let data = null;
  let layout = null;
  let hovered = null;
  let dragFrom = null;
  let dragTo = null;
  let turn = 0;
  let restMs = 0;
  let restUntilMs = 0;
  let readEnd = null;

  const stretch = () => [from ?? 0, to ?? Math.max((endMs - createdMs) / 1000, 0.1)];

  async function load() {
    const [first, last] = stretch();
    const own = ++turn;
    const beganMs = performance.now();
    const loaded = await call(
      withQuery(`/v1/jobs/${job.id}/timeline`, {
        start: new Date(createdMs + 1000 * first).toISOString(),
        end: new Date(createdMs + 1000 * last).toISOString(),
        bins: Math.max(60, Math.min(1000, Math.floor((frame.clientWidth || 900) / 3))),
        limit: LISTED,
      }),
      { signal },
    );
    if (own !== turn || signal.aborted) return;
    restMs = rest(REST, beganMs);
    data = loaded;
    layout = layOut(data, createdMs);
    const listed = data.branches ? "" : `; from ${count(LISTED)} on they are summed up, so zoom in to see each`;
    summary.textContent = `${count(data.num_branches)} finished ${data.num_branches === 1 ? "branch" : "branches"} in view${listed}.`;
    frame.dataset.mode = data.branches ? "branches" : "bins";
    frame.dataset.from = first;
    frame.dataset.to = last;
    paint();
  }

  function paint() {
    if (layout) draw(canvas, frame, layout, { stretch: stretch(), createdMs, deadlineMs: Date.parse(job.deadline_at), hovered, drag: dragFrom === null ? null : [dragFrom, dragTo] });
  }

  function move(first, last) {
    const endS = (endMs - createdMs) / 1000;
    if (first !== null) {
      const width = Math.max(last - first, SHORTEST_S);
      first = Math.max(0, Math.min(first, endS - Math.min(width, endS)));
      last = first + width;
      if (first <= 0 && last >= endS) first = last = null;
    }
    [from, to] = [first, last];
    onMove({ from, to });
    paint();
    return load().catch(() => null);
  }

  function zoom(factor, center = null) {
    const [first, last] = stretch();
    const middle = center ?? (first + last) / 2;
    move(middle - (middle - first) * factor, middle + (last - middle) * factor);
  }

  function pan(share) {
    const [first, last] = stretch();
    move(first + share * (last - first), last + share * (last - first));
  }

  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    const [first, last] = stretch();
    return first + ((event.clientX - box.left - layout.left) / (box.width - layout.left)) * (last - first);
  };

  frame.onkeydown = (event) => {
    const actions = { "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2), ArrowLeft: () => pan(-0.25), ArrowRight: () => pan(0.25), 0: () => move(null, null) };
    if (!actions[event.key] || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    actions[event.key]();
  };
  canvas.onpointerdown = (event) => {
    if (!layout || event.button) return;
    canvas.setPointerCapture(event.pointerId);
    dragFrom = dragTo = at(event);
  };
  canvas.onpointermove = (event) => {
    if (!layout) return;
    if (dragFrom !== null) dragTo = at(event);
    const box = canvas.getBoundingClientRect();
    hovered = layout.find(event.clientX - box.left, event.clientY - box.top, stretch(), box.width);
    describe(tip, hovered, layout, event);
    paint();
  };
  canvas.onpointerleave = () => {
    hovered = null;
    tip.hidden = true;
    paint();
  };
  canvas.onpointerup = () => {
    const [first, last] = [Math.min(dragFrom, dragTo), Math.max(dragFrom, dragTo)];
    const [start, end] = stretch();
    const wasDrag = dragFrom !== null && last - first > (end - start) / 200;
    dragFrom = null;
    if (wasDrag) move(first, last);
    else if (hovered) onOpen(hovered.position);
    paint();
  };
  canvas.ondblclick = () => move(null, null);
  frame.addEventListener("wheel", (event) => {
    if (!layout || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    zoom(event.deltaY > 0 ? 1.25 : 0.8, at(event));
  }, { passive: false, signal });
  const observer = new ResizeObserver(paint);
  observer.observe(frame);
  signal.addEventListener("abort", () => observer.disconnect());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint, { signal });

  return {
    element,
    /** Reads again; a job that ended is read once more up to its end. */
    async refresh(fresh) {
      const hasEnded = fresh.finished_at !== readEnd;
      job = fresh;
      endMs = Date.parse(job.finished_at ?? new Date().toISOString());
      if (!hasEnded && performance.now() < restUntilMs) return;
      restUntilMs = Infinity;
      await load().finally(() => (restUntilMs = performance.now() + restMs));
      readEnd = fresh.finished_at;
    },
  };
}
