// A small line of the last values: drawn as SVG, told in words.

import { svg } from "./dom.js";

const WIDTH = 120;
const HEIGHT = 28;
const SOON = 16;

/** The last values of something, the newest at the right; `element` shows them. */
export class Sparkline {
  /**
   * @param {string} meaning what the values are, for who does not see the line
   * @param {(value: number) => string} format how a value is read out
   */
  constructor(meaning, format, { points = 60 } = {}) {
    this.values = [];
    this.points = points;
    this.meaning = meaning;
    this.format = format;
    this.area = svg("path", { class: "spark-area" });
    this.line = svg("path", { class: "spark-line" });
    const base = svg("path", { class: "spark-base", d: `M0 ${HEIGHT - 1}H${WIDTH}` });
    this.element = svg(
      "svg",
      { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img",
        preserveAspectRatio: "none" },
      base, this.area, this.line,
    );
    this.draw();
  }

  push(value) {
    this.values.push(value);
    if (this.values.length > this.points) this.values.shift();
    this.draw();
  }

  draw() {
    const values = this.values;
    const most = Math.max(...values, 0);
    const top = most || 1;
    // A short past is drawn wide, so that there is something to see soon.
    const step = WIDTH / (Math.min(this.points, Math.max(values.length, SOON)) - 1);
    const start = WIDTH - (values.length - 1) * step;
    const at = values.map((value, index) => [
      (start + index * step).toFixed(1),
      (HEIGHT - 1.5 - (value / top) * (HEIGHT - 5)).toFixed(1),
    ]);
    const line = at.map(([x, y], index) => `${index ? "L" : "M"}${x} ${y}`).join("");
    this.line.setAttribute("d", line);
    const bottom = HEIGHT - 1;
    this.area.setAttribute("d", at.length ? `${line}V${bottom}H${at[0][0]}Z` : "");
    this.element.setAttribute("aria-label", this.describe(most));
  }

  describe(most) {
    if (!this.values.length) return `${this.meaning}: nothing measured yet`;
    const now = this.format(this.values.at(-1));
    return `${this.meaning}: now ${now}, at most ${this.format(most)} since you look`;
  }
}

/** How fast a counter grows, out of two looks at it. */
export class Meter {
  constructor() {
    this.before = null;
  }

  /** The rate since the look before; null at the first look and after a counter began anew. */
  rate(total, now = performance.now()) {
    const before = this.before;
    this.before = { total, now };
    if (!before || total < before.total || now - before.now < 200) return null;
    return ((total - before.total) * 1000) / (now - before.now);
  }
}
