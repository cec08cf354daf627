// Curves over time, drawn by uPlot in the colours of the theme.
import uPlot from "uplot";
import { html, useEffect, useRef } from "../dom.js";
import { theme } from "../theme.js";
import * as format from "../format.js";

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const FONT = "12px ui-sans-serif, system-ui, sans-serif";

/**
 * `series`: [{label, color: 1..5 or a variable's name, bars?, fill?, right?}], `data`: [times in ms, values of each series..],
 * `unit`: writes a value. `right` has a scale of its own at the right. `step`: what a bar stands for, in ms; it begins at its time.
 * `isWhole`: values are counts, with no ticks between 1 and 2. `says` is the chart in words.
 */
export function Chart({ series, data, unit = format.short, height = 200, says, step = null, isWhole = false }) {
  const box = useRef(null);
  const plot = useRef(null);
  const shown = theme.value;
  const shape = JSON.stringify(series);
  useEffect(() => {
    plot.current = new uPlot(optionsOf({ series, unit, height, step, isWhole, width: box.current.clientWidth }), inSeconds(data, step), box.current);
    const watch = new ResizeObserver(([entry]) => plot.current?.setSize({ width: Math.floor(entry.contentRect.width), height }));
    watch.observe(box.current);
    return () => {
      watch.disconnect();
      plot.current.destroy();
      plot.current = null;
    };
  }, [shape, shown, height]);
  useEffect(() => {
    plot.current?.setData(inSeconds(data, step));
  }, [data]);
  return html`<div ref=${box} class="chart" role="img" aria-label=${says} />`;
}

const inSeconds = ([times, ...values], step) => [times.map((ms) => (ms + (step ?? 0) / 2) / 1000), ...values];

/** From 0, with some room above. */
const fromZero = (_, low, high) => [0, high > 0 ? high * 1.1 : 1];

/** Hours and minutes; on a short axis seconds, too. */
function clockTexts(_, times) {
  const isShort = times.length > 1 && times[1] - times[0] < 60;
  return times.map((at) => (isShort ? format.time(at * 1000) : format.clockTime(at * 1000)));
}

/** 1, 2, 5, 10, .. */
const WHOLE = Array.from({ length: 13 }, (_, power) => [1, 2, 5].map((one) => one * 10 ** power)).flat();

function optionsOf({ series, unit, height, width, step, isWhole }) {
  const lines = series.map(({ label, color: name, bars, fill, right }) => {
    const stroke = color(typeof name === "number" ? `--series-${name}` : name);
    return {
      label, stroke, width: bars ? 0 : 2, spanGaps: false, scale: right ? "right" : "y",
      // Where there are too few of them for a line.
      points: { show: (_, __, from, to) => !bars && to - from < 4, size: 5, fill: stroke },
      fill: bars ? stroke : fill ? `${stroke}22` : undefined,
      ...(bars && { paths: uPlot.paths.bars({ size: [0.7, 40], radius: 0.15 }) }),
    };
  });
  const hasRight = series.some(({ right }) => right);
  const axis = { stroke: color("--text-soft"), font: FONT, grid: { stroke: color("--line"), width: 1 }, ticks: { show: false } };
  const values = (_, values) => values.map((value) => unit(value));
  const half = (step ?? 0) / 2000;
  const incrs = isWhole ? { incrs: WHOLE } : {};
  return {
    width, height, series: [{}, ...lines], legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false } },
    padding: [8, hasRight ? 0 : 28, 0, 0],
    scales: { x: { range: (_, low, high) => [low - half, high + half] }, y: { range: fromZero }, ...(hasRight && { right: { range: fromZero } }) },
    axes: [
      { ...axis, grid: { show: false }, space: 80, size: 30, values: clockTexts },
      { ...axis, ...incrs, size: 62, values },
      ...(hasRight ? [{ ...axis, ...incrs, side: 1, scale: "right", size: 56, grid: { show: false }, values }] : []),
    ],
    plugins: [tip(series, unit, half)],
  };
}

/** Shows the values at the pointer. */
function tip(series, unit, half) {
  let box;
  return {
    hooks: {
      init: (plot) => {
        box = document.createElement("div");
        box.className = "chart-tip";
        box.hidden = true;
        plot.over.append(box);
      },
      setCursor: (plot) => {
        const { idx, left } = plot.cursor;
        box.hidden = idx === null || idx === undefined || left < 0;
        if (box.hidden) return;
        const values = series.map(({ label }, at) => [label, plot.data[at + 1][idx]]).filter(([, value]) => value !== null && value !== undefined);
        box.replaceChildren(format.time((plot.data[0][idx] - half) * 1000), ...values.map(([label, value]) => {
          const row = document.createElement("div");
          row.textContent = `${label}: ${unit(value)}`;
          return row;
        }));
        const isRight = left > plot.over.clientWidth / 2;
        box.style.left = isRight ? "auto" : `${left + 12}px`;
        box.style.right = isRight ? `${plot.over.clientWidth - left + 12}px` : "auto";
      },
    },
  };
}

/** A curve of a few pixels, without axes. */
export function Spark({ values, tone = "--series-1" }) {
  const known = values.map((value, at) => [at, value]).filter(([, value]) => Number.isFinite(value));
  if (known.length < 2) return html`<svg class="spark" viewBox="0 0 100 28" aria-hidden="true" />`;
  const most = Math.max(...known.map(([, value]) => value), 1e-12);
  const last = Math.max(values.length - 1, 1);
  const points = known.map(([at, value]) => `${((100 * at) / last).toFixed(2)},${(26 - (24 * value) / most).toFixed(2)}`);
  const [from, to] = [points[0].split(",")[0], points.at(-1).split(",")[0]];
  return html`<svg class="spark" viewBox="0 0 100 28" preserveAspectRatio="none" aria-hidden="true">
    <polygon points=${`${from},28 ${points.join(" ")} ${to},28`} fill=${`var(${tone})`} opacity="0.12" />
    <polyline points=${points.join(" ")} fill="none" stroke=${`var(${tone})`} stroke-width="1.5" vector-effect="non-scaling-stroke" />
  </svg>`;
}

export const Legend = ({ series, last }) => html`<ul class="legend">
  ${series.map(({ label, color: name }, at) => html`<li><i class=${typeof name === "number" ? `c-${name}` : "c-over"} aria-hidden="true" />${label}${last && html` <b>${last[at]}</b>`}</li>`)}
</ul>`;
