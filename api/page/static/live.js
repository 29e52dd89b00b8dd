// Keeps a view up to date: it is read again at intervals, and soon after an event comes in.

import { listen } from "./events.js";
import { forget, notify } from "./notice.js";

const SHORTEST_S = 0.5;
const LONGEST_S = 30;
/** What takes long is asked for less often: so many times as long as it took lies between. */
const REST = 4;
const state = document.getElementById("live");

/** Milliseconds until what began at `beganMs` is asked for again: so many times as long as it took, within limits. */
export function rest(times, beganMs, leastMs = 0) {
  return Math.min(Math.max(times * (performance.now() - beganMs), leastMs), 1000 * LONGEST_S);
}

/**
 * Runs `read` now and again until `signal` aborts or `read` returns false: every `everyS` seconds,
 * and with an open stream of events at `stream` also after each of them, but then only every
 * `streamedS` seconds without one. Waits while the tab is hidden. An error is shown and tried again,
 * slower each time.
 */
export function keepReading(read, { everyS, streamedS = everyS, stream = null, signal }) {
  let timer = null;
  let isReading = false;
  let isOver = false;
  let isStreamed = false;
  let failures = 0;
  let lastMs = -Infinity;
  let restS = 0;

  function wait(seconds) {
    clearTimeout(timer);
    if (!signal.aborted && !isOver) timer = setTimeout(turn, 1000 * seconds);
  }

  async function turn() {
    if (isReading || document.hidden || signal.aborted || isOver) return;
    isReading = true;
    let wakes = 0;
    wake = () => (wakes += 1);
    try {
      lastMs = performance.now();
      isOver = (await read()) === false;
      if (failures) forget();
      failures = 0;
    } catch (error) {
      if (signal.aborted || error.name === "AbortError") return;
      failures += 1;
      notify(error.message);
      isOver = error.status >= 400 && error.status < 500;
    } finally {
      isReading = false;
      wake = wakeLater;
    }
    tell();
    restS = rest(REST, lastMs) / 1000;
    wait(Math.max(restS, wakes && !failures ? SHORTEST_S : Math.min((isStreamed ? streamedS : everyS) * 2 ** failures, LONGEST_S)));
  }

  const wakeLater = () => wait(Math.max(0, Math.max(SHORTEST_S, restS) - (performance.now() - lastMs) / 1000));
  let wake = wakeLater;

  function tell() {
    if (signal.aborted) return;
    state.textContent = isOver ? "" : isStreamed ? "live" : `every ${everyS} s`;
    state.dataset.streamed = String(isStreamed);
  }

  document.addEventListener("visibilitychange", () => (document.hidden ? null : turn()), { signal });
  signal.addEventListener("abort", () => {
    clearTimeout(timer);
    state.textContent = "";
  });
  if (stream) {
    listen(stream, {
      signal,
      onEvent: () => wake(),
      onState: (isOpen) => {
        isStreamed = isOpen;
        tell();
      },
    });
  }
  turn();
}
