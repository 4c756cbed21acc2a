/**
 * Line charts as SVG text, by hand: axes with ticks and units, a legend, colours for light and dark pages. Pure.
 * Values that are not finite (or not positive on a logarithmic axis) are left out.
 */

export interface Axis {
  label: string;
  logarithmic?: boolean;
  /** Where the marks are; made from the values when left out. */
  ticks?: readonly number[];
  /** How a mark is written. */
  text?: (value: number) => string;
}

export interface Series {
  name: string;
  points: readonly (readonly [number, number])[];
}

export interface Chart {
  title: string;
  subtitle: string;
  x: Axis;
  y: Axis;
  series: readonly Series[];
  /** false: lines without a mark at each value, for many of them. */
  marks?: boolean;
}

const WIDTH = 760;
const HEIGHT = 420;
const LEFT = 76;
const RIGHT = 190;
const TOP = 60;
const BOTTOM = 56;
const TICKS = 6;
/** Readable on white and on black, and told apart by the colour-blind (after Okabe and Ito); dashes tell them apart as well. */
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#7f7f7f"];
const DASHES = ["", "6 3", "2 3", "8 3 2 3", "4 4", "1 3"];

const STYLE = `text{font:12px system-ui,sans-serif;fill:#24292f}.title{font-size:15px;font-weight:600}.grid{stroke:#8884;stroke-width:1}.axis{stroke:#888;stroke-width:1}.page{fill:#fff}@media(prefers-color-scheme:dark){text{fill:#e6edf3}.page{fill:#0d1117}}`;

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

const one = (value: number) => String(Math.round(value * 10) / 10);

/** Round marks from 0 to at least `most`: steps of 1, 2 or 5 times a power of ten. */
export function linearTicks(most: number): number[] {
  const rough = most / TICKS;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999) as number);
  return Array.from({ length: Math.ceil((most / step) * 0.999) + 1 }, (_, index) => index * step);
}

/** The powers of ten around the values. */
export function logarithmicTicks(least: number, most: number): number[] {
  const first = Math.floor(Math.log10(least));
  const last = Math.max(first + 1, Math.ceil(Math.log10(most)));
  return Array.from({ length: last - first + 1 }, (_, index) => 10 ** (first + index));
}

/** Position of a value on an axis whose ticks reach from end to end, 0 to 1. */
function scaleOf(
  axis: Axis,
  values: readonly number[],
): { ticks: readonly number[]; at(value: number): number } {
  const most = Math.max(...values);
  const ticks =
    axis.ticks ?? (axis.logarithmic ? logarithmicTicks(Math.min(...values), most) : linearTicks(most));
  const place = axis.logarithmic ? Math.log10 : (value: number) => value;
  const from = place(ticks[0]);
  const width = place(ticks[ticks.length - 1]) - from || 1;
  return { ticks, at: (value) => (place(value) - from) / width };
}

/** Draws a chart. Throws when there is nothing to draw. */
export function drawChart({ title, subtitle, x, y, series, marks = true }: Chart): string {
  const usable = (axis: Axis, value: number) => Number.isFinite(value) && (!axis.logarithmic || value > 0);
  const lines = series
    .map(({ name, points }) => ({ name, points: points.filter(([a, b]) => usable(x, a) && usable(y, b)) }))
    .filter(({ points }) => points.length > 0);
  if (lines.length === 0) throw new Error(`there is nothing to draw: ${title}`);
  const all = lines.flatMap(({ points }) => points);
  const across = scaleOf(
    x,
    all.map(([value]) => value),
  );
  const up = scaleOf(
    y,
    all.map(([, value]) => value),
  );
  const width = WIDTH - LEFT - RIGHT;
  const height = HEIGHT - TOP - BOTTOM;
  const px = (value: number) => one(LEFT + across.at(value) * width);
  const py = (value: number) => one(TOP + (1 - up.at(value)) * height);
  const label = (axis: Axis, value: number) => escaped(axis.text?.(value) ?? value.toLocaleString("en-US"));
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${HEIGHT}" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img">`,
    `<title>${escaped(title)}</title><style>${STYLE}</style>`,
    `<rect class="page" width="${WIDTH}" height="${HEIGHT}"/>`,
    `<text class="title" x="${LEFT}" y="24">${escaped(title)}</text><text x="${LEFT}" y="44">${escaped(subtitle)}</text>`,
  ];
  for (const value of up.ticks)
    parts.push(
      `<path class="grid" d="M${LEFT} ${py(value)}h${width}"/><text x="${LEFT - 8}" y="${Number(py(value)) + 4}" text-anchor="end">${label(y, value)}</text>`,
    );
  for (const value of across.ticks)
    parts.push(
      `<path class="grid" d="M${px(value)} ${TOP}v${height}"/><text x="${px(value)}" y="${TOP + height + 18}" text-anchor="middle">${label(x, value)}</text>`,
    );
  parts.push(
    `<path class="axis" fill="none" d="M${LEFT} ${TOP}v${height}h${width}"/>`,
    `<text x="${LEFT + width / 2}" y="${HEIGHT - 14}" text-anchor="middle">${escaped(x.label)}</text>`,
    `<text transform="translate(16 ${TOP + height / 2}) rotate(-90)" text-anchor="middle">${escaped(y.label)}</text>`,
  );
  lines.forEach(({ name, points }, index) => {
    const colour = COLOURS[index % COLOURS.length];
    const stroke = `stroke="${colour}" stroke-width="2" stroke-dasharray="${DASHES[index % DASHES.length]}"`;
    const places = points.map(([a, b]) => [px(a), py(b)]);
    parts.push(
      `<polyline fill="none" ${stroke} points="${places.map((place) => place.join(",")).join(" ")}"/>`,
      ...(marks ? places : []).map(([a, b]) => `<circle cx="${a}" cy="${b}" r="3" fill="${colour}"/>`),
    );
    const row = TOP + 8 + index * 22;
    parts.push(
      `<path ${stroke} d="M${WIDTH - RIGHT + 14} ${row}h24"/><text x="${WIDTH - RIGHT + 44}" y="${row + 4}">${escaped(name)}</text>`,
    );
  });
  return `${[...parts, "</svg>"].join("\n")}\n`;
}
