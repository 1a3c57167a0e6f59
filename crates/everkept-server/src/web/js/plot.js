// A bar for each day, stacked by what is told apart.
// Never the only way to the figures: the table beside it has them.

import { html, svg } from "../vendor/lit-html.js";

const WIDTH = 720;
const HEIGHT = 200;
const LEFT = 56;
const BOTTOM = 22;
const COLOURS = 6;

/** A round number a little above, for the top of the axis. */
function above(most) {
  if (most <= 0) return 1;
  const unit = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 2.5, 5, 10].map((step) => step * unit).find((step) => step >= most);
}

/** `days`: ["2026-11-20", ...]; `series`: [{name, values: Map(day → number)}]; `show` writes an amount. */
export function bars({ label, days, series, show }) {
  const totals = days.map((day) => series.reduce((sum, { values }) => sum + (values.get(day) ?? 0), 0));
  const top = above(Math.max(0, ...totals));
  const width = (WIDTH - LEFT) / Math.max(days.length, 1);
  const y = (value) => (HEIGHT - BOTTOM) * (1 - value / top) + 6;
  const every = Math.ceil(days.length / 8);
  const stack = (day, at) => {
    let sum = 0;
    return series.map(({ name, values }, colour) => {
      const value = values.get(day) ?? 0;
      if (!value) return null;
      const from = sum;
      sum += value;
      return svg`<rect class=${`c${colour % COLOURS}`} x=${LEFT + at * width + width * 0.12} width=${Math.max(1, width * 0.76)} y=${y(sum)} height=${Math.max(0.5, y(from) - y(sum))}><title>${day} · ${name}: ${show(value)}</title></rect>`;
    });
  };
  return html`<figure class="plot">
    <figcaption>${label}</figcaption>
    <svg viewBox="0 0 ${WIDTH} ${HEIGHT + 8}" role="img" aria-label=${`${label}, ${days[0] ?? ""} to ${days.at(-1) ?? ""}`}>
      ${[0, 0.5, 1].map((part) => svg`<line x1=${LEFT} x2=${WIDTH} y1=${y(top * part)} y2=${y(top * part)}></line><text class="axis" x=${LEFT - 6} y=${y(top * part) + 4}>${show(top * part)}</text>`)}
      ${days.map((day, at) => svg`${stack(day, at)}${at % every === 0 ? svg`<text class="day" x=${LEFT + at * width + width / 2} y=${HEIGHT + 4}>${day.slice(5)}</text>` : null}`)}
    </svg>
    <ul class="legend">${series.map(({ name }, colour) => html`<li><span class=${`swatch c${colour % COLOURS}`}></span><bdi>${name}</bdi></li>`)}</ul>
  </figure>`;
}
