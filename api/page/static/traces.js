// Traces of report charts. `meta` says which field of the report each number is.

/** The value at a path such as "tpot_s.p90" of a row. */
export const valueAt = (row, field) => field.split(".").reduce((part, name) => part?.[name], row) ?? null;

export const nameOf = (row) => row.group ?? "all";
export const groupsOf = (rows) => [...new Set(rows.map(nameOf))];

/** Lines of one field over time, one for each group. */
export function overTime(rows, field, colors, extra = {}) {
  return groupsOf(rows).map((group, index) => {
    const own = rows.filter((row) => nameOf(row) === group);
    const color = colors.series[index % colors.series.length];
    return { type: "scatter", mode: "lines+markers", x: own.map((row) => row.at), y: own.map((row) => valueAt(row, field)), name: group, meta: { field, group }, line: { color, width: 2 }, marker: { color, size: 5 }, ...extra };
  });
}

/** Fractions with their 95% intervals: whiskers below and above. */
export function withInterval(fractions, color) {
  return { error_y: { type: "data", array: fractions.map((fraction) => fraction.high - fraction.value), arrayminus: fractions.map((fraction) => fraction.value - fraction.low), color, thickness: 1, width: 3 } };
}

/** The interval of a fraction over time as a band behind its line. */
export function band(rows, field, color) {
  const edge = (name, fill) => ({ type: "scatter", mode: "lines", x: rows.map((row) => row.at), y: rows.map((row) => valueAt(row, `${field}.${name}`)), meta: { field: `${field}.${name}`, group: "all" }, line: { width: 0 }, hoverinfo: "skip", showlegend: false, ...fill });
  return [edge("low", {}), edge("high", { fill: "tonexty", fillcolor: color })];
}
