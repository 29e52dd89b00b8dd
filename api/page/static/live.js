// Keeps a view up to date: it is read again at intervals, and at once when an event comes in.

import { notify, forget } from "./notice.js";

/**
 * Runs `read` now and every `everyS` seconds until `signal` aborts or `read` returns false. Waits
 * while the tab is hidden. An error is shown and tried again, slower each time.
 *
 * Returns a function that reads at once.
 */
export function keepReading(read, { everyS, signal }) {
  let timer = null;
  let isReading = false;
  let isWanted = false;
  let failures = 0;
  let isOver = false;

  async function turn() {
    clearTimeout(timer);
    if (signal.aborted || isOver) return;
    if (isReading) {
      isWanted = true;
      return;
    }
    isReading = true;
    isWanted = false;
    try {
      if ((await read()) === false) isOver = true;
      if (failures) forget();
      failures = 0;
    } catch (error) {
      if (signal.aborted || error.name === "AbortError") return;
      failures += 1;
      notify(error.message);
      if (error.status >= 400 && error.status < 500) isOver = true;
    } finally {
      isReading = false;
    }
    if (signal.aborted || isOver) return;
    const waitS = isWanted ? 0.1 : Math.min(everyS * 2 ** failures, 30);
    timer = setTimeout(() => (document.hidden ? null : turn()), 1000 * waitS);
  }

  const onVisible = () => (document.hidden ? null : turn());
  document.addEventListener("visibilitychange", onVisible, { signal });
  signal.addEventListener("abort", () => clearTimeout(timer));
  turn();
  return turn;
}
