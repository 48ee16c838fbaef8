// Line and area charts in SVG, drawn anew when data or size change; no library.
const NS = "http://www.w3.org/2000/svg";

function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function niceTop(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((n) => n * power).find((n) => n >= value) || value;
}

function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function path(times, values, x, y, base) {
  let d = "";
  let last = 0;
  values.forEach((value, i) => {
    // A gap in the samples is a gap in the line.
    const gap = i === 0 || times[i] - times[i - 1] > 30;
    if (gap && i > 0 && base !== undefined) d += `L${x(times[last]).toFixed(1)},${base}Z`;
    d += `${gap ? (base === undefined ? "M" : `M${x(times[i]).toFixed(1)},${base}L`) : "L"}${x(times[i]).toFixed(1)},${y(value).toFixed(1)}`;
    last = i;
  });
  if (base !== undefined && values.length) d += `L${x(times[last]).toFixed(1)},${base}Z`;
  return d;
}

// lines: [{name, key, color, area, stack}], format: number -> text
export class Chart {
  constructor(place, lines, format) {
    this.place = place;
    this.lines = lines;
    this.format = format;
    this.data = null;
    this.legend = document.createElement("div");
    this.legend.className = "legend";
    place.after(this.legend);
    new ResizeObserver(() => this.draw()).observe(place);
    place.addEventListener("pointermove", (event) => this.point(event));
    place.addEventListener("pointerleave", () => this.point(null));
  }

  set(data) {
    this.data = data;
    this.draw();
  }

  draw() {
    const width = this.place.clientWidth, height = this.place.clientHeight;
    if (!this.data || !width || !height) return;
    const left = 46, right = 6, top = 10, bottom = 20;
    const times = this.data.time, end = times.at(-1) || Date.now() / 1000, start = end - Math.max(300, Math.min(3600, end - (times[0] || end)));
    const x = (t) => left + ((t - start) / (end - start)) * (width - left - right);
    const stacked = this.lines.map((line, n) => this.data[line.key].map((v, i) => v + (line.stack ? this.data[this.lines[n - 1].key][i] : 0)));
    const most = niceTop(Math.max(0, ...stacked.map((values) => values.reduce((a, b) => Math.max(a, b), 0))));
    const y = (v) => height - bottom - (v / most) * (height - top - bottom);
    const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
    const names = this.lines.map((line, n) => `${line.name} ${this.format(this.data[line.key].at(-1) || 0)}`).join(", ");
    root.append(svg("title", {}, `Now: ${names}`));
    for (let i = 0; i <= 2; i++) {
      const value = (most * i) / 2;
      root.append(svg("line", { class: "grid", x1: left, x2: width - right, y1: y(value), y2: y(value) }));
      const label = svg("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" });
      label.textContent = this.format(value);
      root.append(label);
    }
    for (const part of [0, 0.5, 1]) {
      const minutes = Math.round(((end - start) * (1 - part)) / 60);
      const label = svg("text", { x: x(start + (end - start) * part), y: height - 4, "text-anchor": ["start", "middle", "end"][part * 2] });
      label.textContent = minutes ? `${minutes} min ago` : "now";
      root.append(label);
    }
    [...this.lines.keys()].reverse().forEach((n) => {
      const line = this.lines[n];
      if (line.area) root.append(svg("path", { d: path(times, stacked[n], x, y, height - bottom), fill: color(line.color), "fill-opacity": line.area }));
    });
    this.lines.forEach((line, n) => {
      const ink = color(line.color);
      root.append(svg("path", { d: path(times, stacked[n], x, y), fill: "none", stroke: ink, "stroke-width": 1.6, "stroke-linejoin": "round" }));
    });
    this.cursor = svg("line", { class: "cursor", y1: top, y2: height - bottom, visibility: "hidden" });
    root.append(this.cursor);
    this.scale = { x, start, end, left, right, width };
    this.place.replaceChildren(root);
    this.tell(times.length - 1);
  }

  point(event) {
    if (!this.scale || !this.data.time.length) return;
    const times = this.data.time;
    if (!event) {
      this.cursor.setAttribute("visibility", "hidden");
      this.tell(times.length - 1);
      return;
    }
    const { start, end, left, right, width, x } = this.scale;
    const at = event.clientX - this.place.getBoundingClientRect().left;
    const wanted = start + ((at - left) / (width - left - right)) * (end - start);
    let best = 0;
    times.forEach((t, i) => { if (Math.abs(t - wanted) < Math.abs(times[best] - wanted)) best = i; });
    this.cursor.setAttribute("x1", x(times[best]));
    this.cursor.setAttribute("x2", x(times[best]));
    this.cursor.setAttribute("visibility", "visible");
    this.tell(best, new Date(times[best] * 1000).toLocaleTimeString());
  }

  tell(index, when = "") {
    this.legend.replaceChildren(...this.lines.map((line) => {
      const item = document.createElement("span"), mark = document.createElement("i");
      mark.style.background = color(line.color);
      item.append(mark, `${line.name} ${index >= 0 ? this.format(this.data[line.key][index]) : ""}`);
      return item;
    }), when);
  }
}

export function spark(values, name) {
  const most = Math.max(1e-9, ...values);
  const root = svg("svg", { viewBox: "0 0 100 30", preserveAspectRatio: "none", "aria-hidden": "true" });
  if (values.length > 1) {
    const points = values.map((v, i) => `${((i / (values.length - 1)) * 100).toFixed(2)},${(29 - (v / most) * 27).toFixed(2)}`);
    root.append(svg("path", { d: `M0,30L${points.join("L")}L100,30Z`, fill: color(name) }));
  }
  return root;
}
