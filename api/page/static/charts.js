// Draws charts with plotly.js in the colors of the page.

import { tickSeconds } from "./format.js";

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
/** The color of the style sheet, which is of the form #rrggbb, nearly transparent. */
const withAlpha = (name) => `${color(name)}2e`;

/** Colors by meaning, read anew for each drawing. */
export const colors = () => ({
  p50: color("decode"),
  p90: color("prefill"),
  p99: color("red"),
  good: color("green"),
  decode: color("decode"),
  dim: color("dim"),
  card: color("card"),
  goodBand: withAlpha("green"),
  series: [color("decode"), color("prefill"), color("green"), color("red"), color("waiting")],
});

const HALF_STEPS_S = [0.1, 0.3, 1, 3, 10, 30, 60, 180, 600, 1800, 3600, 10800, 43200, 86400, 259200, 604800];
const FINE_STEPS_S = [0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 7, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 420, 600, 900, 1200, 1800, 2700, 3600, 5400, 7200, 10800, 21600, 43200, 86400, 172800, 259200, 604800];
/** High over low up to which an axis has room for the fine steps. */
const FINE_SPAN = 25;
const STEPS_S = [...[1e-5, 1e-4, 1e-3, 0.01, 0.1, 1].flatMap((unit) => [unit, 2 * unit, 5 * unit]), 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 604800];
const MOST_STEPS = 6;

/** A logarithmic axis of seconds for these values, labeled in minutes, hours and days. */
export function durationAxis(title, values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const ticks = high / low < FINE_SPAN ? FINE_STEPS_S : HALF_STEPS_S;
  return { type: "log", title: { text: title }, range: [low / 1.1, high * 1.1].map(Math.log10), tickvals: ticks, ticktext: ticks.map(tickSeconds), tickangle: 0 };
}

/** An axis of seconds from 0 on, labeled in one unit, for these values; null ones are left out. */
export function secondsAxis(values) {
  const most = Math.max(...values.filter((value) => value !== null), 1e-5);
  const step = STEPS_S.find((size) => most / size <= MOST_STEPS) ?? most / MOST_STEPS;
  const ticks = Array.from({ length: Math.ceil(most / step) + 1 }, (_, index) => index * step);
  return { range: [0, 1.08 * most], tickvals: ticks, ticktext: ticks.map(tickSeconds) };
}

/** An axis of fractions that has room for these values and ends at 100%. */
export function fractionAxis(values) {
  const least = Math.min(...values.filter((value) => value !== null), 0.95);
  return { tickformat: ".0%", range: [Math.max(0, Math.floor(20 * least) / 20 - 0.02), 1.01] };
}

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
  const axis = { gridcolor: color("line"), zerolinecolor: color("line"), linecolor: color("line"), tickcolor: color("line"), automargin: true };
  const merged = {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: color("dim"), family: getComputedStyle(document.documentElement).fontFamily, size: 12 },
    margin: { l: 56, r: 16, t: 28, b: 36 },
    hovermode: "x unified",
    hoverlabel: { bgcolor: color("card"), bordercolor: color("line"), font: { color: color("ink") } },
    legend: { orientation: "h", y: 1.14, x: 1, xanchor: "right", bgcolor: "rgba(0,0,0,0)" },
    dragmode: false,
    ...layout,
  };
  for (const name of ["xaxis", "yaxis"]) {
    const title = { standoff: 10, ...layout[name]?.title, font: { size: 12 } };
    merged[name] = { ...axis, ...layout[name], title };
  }
  return merged;
}
