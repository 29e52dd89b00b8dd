// Draws charts with plotly.js in the colors of the page.

import { seconds } from "./format.js";

let loading = null;

/** The library, loaded when the first chart is drawn: it is larger than all the rest together. */
function library() {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = "/page/plotly.min.js";
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => {
      loading = null;
      reject(new Error("The library of the charts did not load. The tables below have the same numbers."));
    };
    document.head.append(script);
  });
  return loading;
}

const dark = matchMedia("(prefers-color-scheme: dark)");
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const withAlpha = (name) => `color-mix(in srgb, ${color(name)} 18%, transparent)`;

/** Colors by meaning, read anew for each drawing. */
export const colors = () => ({
  p50: color("decode"),
  p90: color("prefill"),
  p99: color("red"),
  good: color("green"),
  decode: color("decode"),
  dim: color("dim"),
  band: withAlpha("decode"),
  series: [color("decode"), color("prefill"), color("green"), color("red"), color("waiting")],
});

const TICKS_S = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600, 7200, 14400, 43200, 86400, 259200, 604800];

/** A logarithmic axis of seconds that is labeled in minutes, hours and days. */
export const durationAxis = (title) => ({ type: "log", title: { text: title }, tickvals: TICKS_S, ticktext: TICKS_S.map(seconds) });

/**
 * Draws into `element`. `build(colors)` returns `{traces, layout}`; it is called again when the
 * page turns dark or light. What the chart shows must also stand in a table.
 */
export async function chart(element, label, build, signal) {
  const plotly = await library();
  if (signal.aborted || !element.isConnected) return;
  element.setAttribute("role", "img");
  element.setAttribute("aria-label", label);
  const draw = () => {
    const { traces, layout } = build(colors());
    return plotly.react(element, traces, themed(layout), { displayModeBar: false, responsive: true, doubleClick: "reset" });
  };
  if (!element.dataset.drawn) {
    element.dataset.drawn = "yes";
    signal.addEventListener("abort", () => plotly.purge(element), { once: true });
  }
  element.redraw = draw;
  await draw();
}

dark.addEventListener("change", () => {
  for (const element of document.querySelectorAll("[data-drawn]")) element.redraw();
});

function themed(layout) {
  const axis = { gridcolor: color("line"), zerolinecolor: color("line"), linecolor: color("line"), tickcolor: color("line"), automargin: true, title: { standoff: 8 } };
  const merged = {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: color("ink"), family: getComputedStyle(document.documentElement).fontFamily, size: 12 },
    margin: { l: 56, r: 16, t: 30, b: 40 },
    hovermode: "x unified",
    hoverlabel: { bgcolor: color("card"), bordercolor: color("line"), font: { color: color("ink") } },
    legend: { orientation: "h", y: 1.14, x: 1, xanchor: "right", bgcolor: "rgba(0,0,0,0)" },
    dragmode: false,
    ...layout,
  };
  for (const name of ["xaxis", "yaxis", "yaxis2"]) {
    if (layout[name] || name !== "yaxis2") merged[name] = { ...axis, ...layout[name] };
  }
  return merged;
}
