// Lays a timeline out in rows and draws it.

import { seconds } from "./format.js";

const AXIS = 22;
const HEAD = 18;
const STRIP = 46;
const ROW = 9;
const GAP = 10;
export const LEFT = 8;

/**
 * Places of all workers and branches, from the top. A branch gets the lowest row of its worker that
 * is free when it starts: engines do not number their rows, so this is the page's own numbering.
 */
export function layOut(data, createdMs) {
  const since = (iso) => (iso ? (Date.parse(iso) - createdMs) / 1000 : null);
  const workers = [];
  let top = AXIS;
  for (const bins of data.workers) {
    const spans = (data.branches ?? []).filter((branch) => branch.worker === bins.name).map((branch) => ({
      ...branch,
      queued: since(branch.queued_at),
      started: since(branch.started_at),
      firstToken: since(branch.first_token_at),
      finished: since(branch.finished_at),
      row: null,
      freeSince: -Infinity,
    }));
    const numRows = placeRows(spans);
    const peak = Math.max(...bins.waiting.map((value, index) => Math.max(value, bins.prefill[index] + bins.decode[index])), 1);
    const busy = Math.max(...bins.prefill.map((value, index) => value + bins.decode[index]), 0);
    workers.push({ ...bins, spans, numRows, peak, busy, top, strip: top + HEAD, rows: top + HEAD + STRIP + 4 });
    top += HEAD + STRIP + (numRows ? 4 + numRows * ROW : 0) + GAP;
  }
  const start = since(data.start_at);
  return { workers, height: Math.max(top, 90), left: LEFT, start, binS: data.bin_s, find: (x, y, stretch, width) => find(workers, x, y, stretch, width) };
}

function placeRows(spans) {
  const freeAt = [];
  for (const span of spans) {
    if (span.started === null) continue;
    let row = freeAt.findIndex((time) => time <= span.started + 1e-6);
    if (row < 0) row = freeAt.push(-Infinity) - 1;
    span.row = row;
    span.freeSince = freeAt[row];
    freeAt[row] = span.finished;
  }
  return freeAt.length;
}

function find(workers, x, y, [first, last], width) {
  const time = first + ((x - LEFT) / (width - LEFT)) * (last - first);
  const slack = (1.5 / (width - LEFT)) * (last - first);
  for (const worker of workers) {
    const row = Math.floor((y - worker.rows) / ROW);
    if (y < worker.rows || row < 0 || row >= worker.numRows) continue;
    return worker.spans.find((span) => span.row === row && span.started - slack <= time && time <= span.finished + slack) ?? null;
  }
  return null;
}

export function draw(canvas, frame, layout, { stretch: [first, last], createdMs, deadlineMs, hovered, drag }) {
  const width = frame.clientWidth;
  const ratio = devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(layout.height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(layout.height * ratio);
    canvas.style.height = `${layout.height}px`;
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, layout.height);
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(`--${name}`).trim();
  const colors = Object.fromEntries(["ink", "dim", "line", "band", "waiting", "prefill", "decode", "aborted", "red", "green"].map((name) => [name, color(name)]));
  const x = (time) => LEFT + ((time - first) / (last - first)) * (width - LEFT);
  context.font = `11px ${style.fontFamily}`;
  drawAxis(context, x, first, last, width, layout.height, colors);
  context.save();
  context.beginPath();
  context.rect(LEFT, 0, width - LEFT, layout.height);
  context.clip();
  for (const worker of layout.workers) {
    context.fillStyle = colors.ink;
    context.fillText(worker.name, LEFT, worker.top + 13);
    context.fillStyle = colors.dim;
    context.fillText(`at most ${worker.busy.toFixed(worker.busy < 10 ? 1 : 0)} rows in use`, LEFT + context.measureText(worker.name).width + 10, worker.top + 13);
    drawStrip(context, x, worker, layout, width, colors);
    for (const span of worker.spans) drawSpan(context, x, span, worker, colors, hovered, first, last);
  }
  context.restore();
  const deadline = (deadlineMs - createdMs) / 1000;
  if (deadline >= first && deadline <= last) {
    context.fillStyle = colors.red;
    context.fillRect(x(deadline) - 1, AXIS - 6, 2, layout.height);
    context.textAlign = "right";
    context.fillText("deadline", x(deadline) - 4, AXIS + 8);
    context.textAlign = "left";
  }
  if (drag) {
    context.fillStyle = colors.decode;
    context.globalAlpha = 0.2;
    context.fillRect(x(Math.min(...drag)), AXIS, Math.abs(x(drag[1]) - x(drag[0])), layout.height);
    context.globalAlpha = 1;
  }
}

function drawAxis(context, x, first, last, width, height, colors) {
  const raw = (last - first) / Math.max(2, Math.floor(width / 110));
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((value) => value >= raw);
  for (let index = Math.ceil(first / step); index * step <= last; index += 1) {
    const place = Math.round(x(index * step)) + 0.5;
    context.fillStyle = colors.line;
    context.fillRect(place, AXIS - 5, 1, height);
    context.fillStyle = colors.dim;
    if (place < width - 50) context.fillText(seconds(index * step), place + 3, 13);
  }
}

// Stacked from the ground: decode, prefill; waiting as a line, because those hold no row.
function drawStrip(context, x, worker, layout, width, colors) {
  const ground = worker.strip + STRIP;
  context.fillStyle = colors.band;
  context.fillRect(LEFT, worker.strip, width - LEFT, STRIP);
  const height = (value) => (value / worker.peak) * (STRIP - 2);
  const size = worker.decode.length;
  for (let bin = 0; bin < size; bin += 1) {
    const from = x(layout.start + bin * layout.binS);
    const across = x(layout.start + (bin + 1) * layout.binS) - from + 0.3;
    const decode = height(worker.decode[bin]);
    const prefill = height(worker.prefill[bin]);
    context.fillStyle = colors.decode;
    context.fillRect(from, ground - decode, across, decode);
    context.fillStyle = colors.prefill;
    context.fillRect(from, ground - decode - prefill, across, prefill);
  }
  context.beginPath();
  for (let bin = 0; bin < size; bin += 1) {
    const level = ground - height(worker.waiting[bin]);
    context.lineTo(x(layout.start + bin * layout.binS), level);
    context.lineTo(x(layout.start + (bin + 1) * layout.binS), level);
  }
  context.strokeStyle = colors.dim;
  context.lineWidth = 1;
  context.stroke();
}

function drawSpan(context, x, span, worker, colors, hovered, first, last) {
  if (span.row === null || span.finished < first || Math.max(span.queued, span.freeSince) > last) return;
  const top = worker.rows + span.row * ROW;
  const start = x(span.started);
  const token = x(span.firstToken ?? span.finished);
  const end = Math.max(x(span.finished), start + 1);
  const waited = Math.max(x(span.queued), x(span.freeSince) + 1);
  context.fillStyle = colors.waiting;
  if (waited < start) context.fillRect(waited, top + ROW / 2 - 1, start - waited, 1);
  const isOther = hovered && hovered.position !== span.position;
  context.globalAlpha = isOther ? 0.35 : 1;
  context.fillStyle = colors.prefill;
  context.fillRect(start, top, Math.max(token - start, 0.5), ROW - 2);
  context.fillStyle = ["stop", "length"].includes(span.finish_reason) ? colors.decode : colors.aborted;
  context.fillRect(token, top, Math.max(end - token - 0.5, 0.5), ROW - 2);
  if (end - token > 6 && span.is_correct !== null) {
    context.fillStyle = span.is_correct ? colors.green : colors.red;
    context.fillRect(end - 3, top, 2.5, ROW - 2);
  }
  context.globalAlpha = 1;
  if (hovered === span) {
    context.strokeStyle = colors.ink;
    context.strokeRect(start - 0.5, top - 0.5, end - start, ROW - 1);
  }
}
