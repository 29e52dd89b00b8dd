// What the pointer stands on in a timeline.

import { h, show } from "./dom.js";
import { count, seconds, verdict } from "./format.js";

/** Puts the words for a branch beside the pointer, or hides them. */
export function describe(tip, span, layout, event) {
  tip.hidden = !span;
  if (!span) return;
  const decodeS = span.firstToken === null ? null : span.finished - span.firstToken;
  show(
    tip,
    h("p", {}, h("strong", {}, span.problem_id), ` · branch ${span.branch_index} · row ${span.row + 1}`),
    h("p", {}, `Waited ${seconds(span.started - span.queued)}, prefill ${seconds((span.firstToken ?? span.finished) - span.started)}${decodeS === null ? "" : `, decode ${seconds(decodeS)}`}`),
    h("p", {}, `${count(span.completion_tokens)} tokens, draft ${span.num_speculative_tokens}, ended by ${span.finish_reason}`),
    h("p", {}, "Answer ", h("code", {}, span.answer ?? "none"), " ", verdict(span.is_correct)),
  );
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.min(event.clientX + 14, innerWidth - box.width - 8)}px`;
  tip.style.top = `${Math.min(event.clientY + 14, innerHeight - box.height - 8)}px`;
}
