/**
 * How latencies are distributed, as a picture: for each share of the requests, how long they took at most.
 *
 * The axis of shares has as much room between 99 % and 99.9 % as between 90 % and 99 %, for it is in the slowest one in
 * a thousand that strategies differ. Drawn by Vega, which needs no browser; it is an optional peer, loaded when a picture
 * is asked for.
 *
 * After the plots of Gil Tene's HdrHistogram.
 */

import type { SimulationResult } from "../sim/index.ts";
import { UsageError } from "./usage.ts";

/** What of Vega is used. Its own types want a browser's, and are not looked at. */
interface Vega {
  parse(specification: object): object;
  readonly View: new (runtime: object, options: object) => { toSVG(): Promise<string>; finalize(): void };
}

export interface Caption {
  readonly title: string;
  /** How long callers wait: a line across. */
  readonly timeoutMs: number;
}

type Draw = (results: ReadonlyMap<string, SimulationResult>, caption: Caption) => Promise<string>;

/**
 * Loads what it takes to draw, and gives the function that does.
 *
 * @throws {UsageError} when the package is not there.
 */
export async function drawLatency(load: () => Promise<unknown> = () => import("vega" as string)): Promise<Draw> {
  let vega: Vega;
  try {
    vega = (await load()) as Vega;
  } catch (error) {
    if ((error as { code?: unknown }).code !== "ERR_MODULE_NOT_FOUND") throw error;
    throw new UsageError("--svg draws with the package vega, which is not here: npm install vega");
  }
  return async (results, caption) => {
    const view = new vega.View(vega.parse(specification(results, caption)), { renderer: "none" });
    const svg = await view.toSVG();
    view.finalize();
    return `${svg}\n`;
  };
}

/** Told apart by most who cannot tell all colours apart, in print too (Okabe and Ito, 2008). */
const colours = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999"];
const grey = "#6b7280";
const ink = "#1f2937";
/** As far left as the median. */
const leastNines = 10 ** 0.3;
/** So that lines which lie on each other can all be seen. */
const dashes = [[], [9, 3], [3, 3], [12, 3, 3, 3], [2, 2], [6, 2]];
/** Between the names above the picture; a letter's width is a guess, for text is measured only where it is shown. */
const [letterWidth, symbolWidth, nameGap] = [6.4, 26, 22];

function specification(results: ReadonlyMap<string, SimulationResult>, { title, timeoutMs }: Caption): object {
  const points = [...results].flatMap(([strategy, { distribution }]) =>
    distribution.map(({ share, ms }) => ({ strategy, nines: 1 / (1 - share), ms: Math.max(ms, 0.001) })),
  );
  const shown = points.filter(({ nines }) => nines >= leastNines);
  const mostNines = Math.max(10, ...shown.map(({ nines }) => nines));
  // Where there is nothing to show there are axes all the same.
  const times = shown.length === 0 ? [1, 10] : shown.map(({ ms }) => ms);
  const [least, most] = [Math.min(...times), Math.max(...times)];
  const waits = timeoutMs <= 1.5 * most && timeoutMs >= least;
  const domain = [least / 1.15, most * 1.25];
  const names = [...results.keys()];
  const [first = "", ...rest] = lines(title, 114);
  return {
    $schema: "https://vega.github.io/schema/vega/v6.json",
    description: `Latency by share of requests, by strategy: ${title}`,
    background: "white",
    // Vega, too, guesses how wide text is. So nothing here is laid out by what it guesses.
    autosize: { type: "none" },
    width: 680,
    height: 360,
    padding: { left: 80, right: 40, top: 72 + 16 * (1 + rest.length), bottom: 62 },
    config: {
      text: { font: "Helvetica, Arial, sans-serif" },
      style: {
        "guide-label": { font: "Helvetica, Arial, sans-serif", fontSize: 12, fill: ink },
        "guide-title": { font: "Helvetica, Arial, sans-serif", fontSize: 12, fontWeight: "normal", fill: grey },
        "group-title": { font: "Helvetica, Arial, sans-serif" },
        "group-subtitle": { font: "Helvetica, Arial, sans-serif" },
      },
    },
    title: {
      text: "How long requests take, by share of the requests",
      subtitle: [first, ...rest],
      anchor: "start",
      frame: "group",
      fontSize: 15,
      fontWeight: 600,
      color: ink,
      subtitleFontSize: 12,
      subtitleColor: grey,
      subtitlePadding: 5,
      subtitleLineHeight: 16,
      offset: 22,
    },
    data: [
      { name: "points", values: shown },
      { name: "names", values: inARow(names) },
    ],
    scales: [
      { name: "x", type: "log", domain: [leastNines, mostNines], range: "width" },
      { name: "y", type: "log", domain, range: "height" },
      { name: "colour", type: "ordinal", domain: names, range: colours },
      { name: "dash", type: "ordinal", domain: names, range: dashes },
    ],
    axes: [
      {
        scale: "x",
        orient: "bottom",
        title: "share of the requests that take no longer",
        titlePadding: 10,
        values: [2, ...powersOfTen(mostNines)],
        format: "",
        encode: { labels: { update: { text: { signal: shareLabel } } } },
        grid: true,
        gridColor: "#eceef1",
        domainColor: "#9ca3af",
        tickColor: "#9ca3af",
        labelPadding: 6,
      },
      {
        scale: "y",
        orient: "left",
        title: "milliseconds",
        titleX: -58,
        values: oneTwoFive(domain as [number, number]),
        encode: { labels: { update: { text: { signal: "format(datum.value, ',')" } } } },
        grid: true,
        gridColor: "#eceef1",
        domain: false,
        ticks: false,
        labelPadding: 8,
      },
    ],
    marks: [
      ...legend,
      ...(waits ? limit(timeoutMs) : []),
      {
        type: "group",
        from: { facet: { name: "series", data: "points", groupby: "strategy" } },
        marks: [
          {
            type: "line",
            from: { data: "series" },
            encode: {
              enter: {
                x: { scale: "x", field: "nines" },
                y: { scale: "y", field: "ms" },
                stroke: { scale: "colour", field: "strategy" },
                strokeDash: { scale: "dash", field: "strategy" },
                strokeWidth: { value: 2.25 },
                strokeJoin: { value: "round" },
                interpolate: { value: "monotone" },
              },
            },
          },
        ],
      },
    ],
  };
}

/** The names of the strategies, each with a piece of its line. */
const legend: object[] = [
  {
    type: "rule",
    from: { data: "names" },
    encode: {
      enter: {
        x: { field: "x" },
        x2: { field: "x", offset: symbolWidth - 6 },
        y: { value: -20 },
        stroke: { scale: "colour", field: "name" },
        strokeDash: { scale: "dash", field: "name" },
        strokeWidth: { value: 3 },
      },
    },
  },
  {
    type: "text",
    from: { data: "names" },
    encode: {
      enter: {
        x: { field: "x", offset: symbolWidth },
        y: { value: -20 },
        baseline: { value: "middle" },
        text: { field: "name" },
        fontSize: { value: 12.5 },
        fill: { value: ink },
      },
    },
  },
];

function inARow(names: readonly string[]): { name: string; x: number }[] {
  let x = 0;
  return names.map((name) => {
    const at = x;
    x += symbolWidth + letterWidth * name.length + nameGap;
    return { name, x: at };
  });
}

/** 50 %, 90 %, 99 %, 99.9 %: the share that the number of nines stands for. */
const shareLabel =
  "datum.value === 2 ? '50 %' : format(100 * (1 - 1 / datum.value), '.' + max(0, round(log(datum.value) / LN10) - 2) + 'f') + ' %'";

function limit(timeoutMs: number): object[] {
  const y = { scale: "y", value: timeoutMs };
  return [
    {
      type: "rule",
      encode: {
        enter: {
          x: { value: 0 },
          x2: { field: { group: "width" } },
          y,
          stroke: { value: grey },
          strokeDash: { value: [4, 4] },
        },
      },
    },
    {
      type: "text",
      encode: {
        enter: {
          x: { value: 6 },
          y: { ...y, offset: -6 },
          text: { value: "here callers wait no longer" },
          fill: { value: grey },
          fontSize: { value: 12 },
        },
      },
    },
  ];
}

function powersOfTen(upTo: number): number[] {
  return Array.from({ length: Math.floor(Math.log10(upTo) + 1e-9) }, (_, at) => 10 ** (at + 1));
}

function oneTwoFive([from, to]: [number, number]): number[] {
  const powers = Array.from({ length: 16 }, (_, at) => 10 ** (at - 4));
  return powers.flatMap((power) => [power, 2 * power, 5 * power]).filter((value) => value >= from && value <= to);
}

/** Text in lines of at most so many letters, broken behind commas. */
function lines(text: string, most: number): string[] {
  const found: string[] = [];
  for (const part of text.split(/(?<=,) /)) {
    const last = found.at(-1);
    if (last !== undefined && last.length + part.length + 1 <= most) found[found.length - 1] = `${last} ${part}`;
    else found.push(part);
  }
  return found;
}
