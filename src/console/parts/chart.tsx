/** A chart of the last minutes, over uPlot. */
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";

export interface Line {
  name: string;
  colour: string;
  values: readonly (number | null)[];
}

const HEIGHT = 180;

/** `seconds`: when each value was taken, since 1970. */
export function Chart({
  title,
  unit,
  seconds,
  lines,
}: {
  title: string;
  unit: string;
  seconds: readonly number[];
  lines: readonly Line[];
}) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  useEffect(() => {
    const element = place.current as HTMLDivElement;
    const colour = getComputedStyle(element).color;
    const grid = { stroke: "rgba(128,128,128,.25)", width: 1 };
    const axis = { stroke: colour, grid, ticks: grid };
    const made = new uPlot(
      {
        width: element.clientWidth || 300,
        height: HEIGHT,
        series: [{}, ...lines.map(({ name, colour: stroke }) => ({ label: name, stroke, width: 1.5 }))],
        axes: [
          axis,
          {
            ...axis,
            size: 72,
            values: (_, ticks) => ticks.map((tick) => `${Number(tick.toPrecision(3))}${unit}`),
          },
        ],
        scales: { y: { range: (_, __, max) => [0, Math.max((max ?? 0) * 1.1, 0.1)] } },
        cursor: { y: false },
      },
      [[], ...lines.map(() => [])],
      element,
    );
    plot.current = made;
    const watch = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: HEIGHT }));
    watch.observe(element);
    return () => {
      watch.disconnect();
      made.destroy();
    };
  }, [lines.length, unit]);
  useEffect(() => {
    plot.current?.setData([[...seconds], ...lines.map(({ values }) => [...values])] as uPlot.AlignedData);
  }, [seconds, lines]);
  const last = lines.map(({ name, values }) => `${name} ${values.at(-1) ?? "unknown"}${unit}`).join(", ");
  return (
    <figure>
      <figcaption>{title}</figcaption>
      <div class="chart" ref={place} role="img" aria-label={`${title}: ${last}`} />
    </figure>
  );
}
