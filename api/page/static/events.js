// Server-sent events by `fetch`, because an EventSource cannot send the key.

import { request } from "./api.js";

const LONGEST_WAIT_S = 30;

/**
 * Calls `onEvent` for every event of the stream at `path` until `signal` aborts, and connects again
 * when it breaks. A hidden tab holds no connection: browsers allow few of them to one host.
 *
 * `onState` is told whether the stream is open. A server that refuses it is not asked again.
 */
export async function listen(path, { onEvent, onState, signal }) {
  let waitS = 1;
  while (!signal.aborted) {
    await visible(signal);
    const attempt = new AbortController();
    const giveUp = () => attempt.abort();
    const onHide = () => (document.hidden ? attempt.abort() : null);
    signal.addEventListener("abort", giveUp, { once: true });
    document.addEventListener("visibilitychange", onHide);
    try {
      const response = await request(path, { accept: "text/event-stream", signal: attempt.signal });
      if (!response.headers.get("content-type")?.startsWith("text/event-stream")) return;
      onState(true);
      for await (const event of eventsOf(response.body)) {
        waitS = 1;
        onEvent(event);
      }
    } catch (error) {
      if (error.status >= 400 && error.status < 500) return;
    } finally {
      onState(false);
      attempt.abort();
      signal.removeEventListener("abort", giveUp);
      document.removeEventListener("visibilitychange", onHide);
    }
    await new Promise((resolve) => setTimeout(resolve, 1000 * waitS));
    waitS = Math.min(2 * waitS, LONGEST_WAIT_S);
  }
}

function visible(signal) {
  if (!document.hidden) return null;
  return new Promise((resolve) => {
    document.addEventListener("visibilitychange", resolve, { once: true, signal });
    signal.addEventListener("abort", resolve, { once: true });
  });
}

/** Events of a stream as `{type, data}`; comments, which only keep the connection open, are skipped. */
async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split(/\r?\n\r?\n/);
    rest = blocks.pop();
    for (const block of blocks) {
      const event = { type: "message", data: "" };
      for (const line of block.split(/\r?\n/)) {
        const [, name, text] = /^(\w*): ?(.*)$/.exec(line) ?? [];
        if (name === "event") event.type = text;
        if (name === "data") event.data += event.data ? `\n${text}` : text;
      }
      if (event.data) yield event;
    }
  }
}
