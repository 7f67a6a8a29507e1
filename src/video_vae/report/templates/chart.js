"use strict";
/* Scores frame by frame under the scrubber, on its scale, with a cursor that follows it. */
const SVG = "http://www.w3.org/2000/svg";

function svgNode(name, attributes) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

function seriesColour(key, order) {
  if (["rec", "spatial", "repeat", "mean"].includes(key)) return `var(--${key})`;
  return `var(--other${1 + (Math.max(0, order - 2) % 3)})`; /* the first two are rec and spatial */
}

class Charts {
  static HEIGHT = 56;
  static EDGE = 8; /* half of the scrubber's thumb: frames stand exactly below it */

  constructor(root, player) {
    this.root = root;
    this.player = player;
    this.rows = [];
    this.hidden = new Set(["repeat"]);
    player.on((what) => {
      if (what === "clip") this.build();
      if (what === "frame") this.cursor();
    });
    new ResizeObserver(() => this.layout()).observe(root);
    const follow = (event) => player.seek(this.frameAt(event));
    root.addEventListener("pointerdown", (event) => { player.pause(); root.setPointerCapture(event.pointerId); follow(event); });
    root.addEventListener("pointermove", (event) => { if (event.buttons) follow(event); });
  }

  get width() { return this.root.clientWidth || 600; }
  get steps() { return Math.max(1, this.player.clip.frames - 1); }
  x(frame) { return Charts.EDGE + (frame / this.steps) * (this.width - 2 * Charts.EDGE); }
  frameAt(event) {
    const place = event.clientX - this.root.getBoundingClientRect().left - Charts.EDGE;
    return Math.round((place / (this.width - 2 * Charts.EDGE)) * this.steps);
  }

  build() {
    const clip = this.player.clip;
    this.curves = clip.videos.filter((video) => clip.series[video.key])
      .map((video, order) => ({ key: video.key, label: video.label, colour: seriesColour(video.key, order) }));
    this.rows = [];
    this.root.replaceChildren(this.legend());
    for (const metric of this.player.data.metrics) {
      const curves = this.curves.filter((curve) => clip.series[curve.key][metric.key] && !this.hidden.has(curve.key))
        .map((curve) => ({ ...curve, values: clip.series[curve.key][metric.key] }));
      if (curves.length) this.rows.push(this.row(metric, curves));
    }
    if (!this.curves.length) this.root.textContent = "No scores frame by frame were found for this clip.";
    this.layout();
  }

  legend() {
    const box = document.createElement("div");
    box.className = "legend";
    for (const curve of this.curves) {
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-pressed", String(!this.hidden.has(curve.key)));
      button.append(this.dot(curve.colour), curve.label);
      button.addEventListener("pointerdown", (event) => event.stopPropagation());
      button.addEventListener("click", () => {
        if (!this.hidden.delete(curve.key)) this.hidden.add(curve.key);
        this.build();
      });
      box.append(button);
    }
    return box;
  }

  dot(colour) {
    const dot = document.createElement("i");
    dot.className = "dot";
    dot.style.background = colour;
    return dot;
  }

  row(metric, curves) {
    const box = document.createElement("div");
    box.className = "chart";
    box.dataset.metric = metric.key;
    const head = document.createElement("div");
    head.className = "head";
    const name = document.createElement("b");
    name.textContent = metric.label + (metric.unit ? ", " + metric.unit : "") + (metric.higher ? " ↑" : " ↓");
    head.append(name);
    for (const curve of curves) {
      const item = document.createElement("span");
      curve.readout = document.createElement("output");
      item.append(this.dot(curve.colour), curve.readout);
      head.append(item);
    }
    const range = document.createElement("span");
    range.className = "range";
    head.append(range);
    const svg = svgNode("svg", { role: "img", "aria-label": `${metric.label} of each frame` });
    box.append(head, svg);
    this.root.append(box);
    return { metric, curves, svg, range };
  }

  layout() {
    if (!this.player.clip) return;
    for (const row of this.rows) this.draw(row);
    this.cursor();
  }

  draw(row) {
    const values = row.curves.flatMap((curve) => curve.values).filter((value) => value !== null);
    let [low, high] = [Math.min(...values), Math.max(...values)];
    row.range.textContent = `${low.toFixed(row.metric.decimals)} to ${high.toFixed(row.metric.decimals)}`;
    if (high - low < 1e-9) { low -= 0.5; high += 0.5; }
    row.y = (value) => Charts.HEIGHT - 6 - ((value - low) / (high - low)) * (Charts.HEIGHT - 14);
    row.svg.setAttribute("viewBox", `0 0 ${this.width} ${Charts.HEIGHT}`);
    row.svg.replaceChildren();
    const right = this.width - Charts.EDGE;
    row.svg.append(svgNode("line", { class: "base", x1: Charts.EDGE, x2: right, y1: Charts.HEIGHT - 1, y2: Charts.HEIGHT - 1 }));
    const chunk = this.player.data.chunk;
    for (let border = chunk; chunk && border < this.player.clip.frames; border += chunk) {
      row.svg.append(svgNode("line", { class: "border", x1: this.x(border - 0.5), x2: this.x(border - 0.5), y1: 2, y2: Charts.HEIGHT - 1 }));
    }
    for (const curve of row.curves) {
      const path = svgNode("path", { d: this.path(curve.values, row.y) });
      path.style.stroke = curve.colour;
      row.svg.append(path);
      curve.mark = svgNode("circle", { class: "mark", r: 3.5 });
      curve.mark.style.fill = curve.colour;
    }
    row.line = svgNode("line", { class: "cursor", y1: 0, y2: Charts.HEIGHT });
    row.svg.append(row.line, ...row.curves.map((curve) => curve.mark));
  }

  path(values, y) {
    let text = "";
    let pen = "M";
    values.forEach((value, frame) => {
      if (value === null) { pen = "M"; return; }
      text += `${pen}${this.x(frame).toFixed(1)} ${y(value).toFixed(1)}`;
      pen = "L";
    });
    return text;
  }

  cursor() {
    const frame = this.player.frame;
    for (const row of this.rows) {
      if (!row.line) continue;
      const x = this.x(frame).toFixed(1);
      row.line.setAttribute("x1", x);
      row.line.setAttribute("x2", x);
      for (const curve of row.curves) {
        const value = curve.values[frame];
        const known = value !== null && value !== undefined;
        curve.readout.textContent = known ? value.toFixed(row.metric.decimals) : "–";
        curve.mark.style.display = known ? "" : "none";
        if (known) {
          curve.mark.setAttribute("cx", x);
          curve.mark.setAttribute("cy", row.y(value).toFixed(1));
        }
      }
    }
  }
}
