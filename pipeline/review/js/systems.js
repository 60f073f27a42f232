// Several systems over the time of one video, each score as its place among the normal scores that
// its own model held out. The height says how rare: 1 in 10, 1 in 100 of the normal scores.
"use strict";

vadpipe.Systems = class {
  constructor(systems) {
    const { el } = vadpipe;
    this.systems = systems.map((system, i) => ({ ...system, name: vadpipe.plain(system.name), at: i, on: true }));
    this.canvas = el("canvas", { role: "img", "aria-label": "Scores of all systems over time, by how rare they are" });
    this.tip = el("div.tip", { hidden: true });
    this.chart = el("div.plot", {}, this.canvas, this.tip);
    this.legend = el("div.legend", {}, ...this.systems.map((system) => this.item(system)));
    this.box = el("section.systems", { hidden: !systems.length },
      el("h3", { text: "Systems side by side" }),
      el("p.soft", { text: "How rare each score is among the normal scores that its own model held out. Bars are its events, dashes its threshold." }),
      this.legend, this.chart);
    this.canvas.addEventListener("pointermove", (event) => this.hint(event.offsetX));
    this.canvas.addEventListener("pointerleave", () => this.hint(null));
  }

  item(system) {
    const { el } = vadpipe, box = el("input", { type: "checkbox", onchange: (event) => {
      system.on = event.target.checked;
      this.draw(this.video, this.view);
    } });
    box.checked = true;
    return el("label.item", {}, box, el(`i.part${system.at % 4}`), el("span", { text: system.name }),
      el("span.soft.expert", { text: vadpipe.plain(system.detector) }));
  }

  // Normal scores above a quantile are 1 in 10 ** height. Finite for 1 too: no number is nearer to
  // 1 than half of EPSILON.
  height(quantile) {
    return -Math.log10(Math.max(1 - quantile, Number.EPSILON / 2));
  }

  // The quantile of each system at a frame of the file.
  at(frame) {
    const curves = this.video?.curve?.systems || [];
    return this.systems.map(({ name, at }) => ({ name, quantile: curves[at] ? vadpipe.curves.scoreAt(curves[at], frame) : null }));
  }

  draw(video, view) {
    Object.assign(this, { video, view });
    const { chart, canvas, systems } = this, curves = video?.curve?.systems;
    if (!systems.length || !curves || !chart.clientWidth) return;
    const dense = devicePixelRatio || 1, width = chart.clientWidth, height = chart.clientHeight;
    canvas.width = width * dense;
    canvas.height = height * dense;
    const pen = canvas.getContext("2d"), style = getComputedStyle(chart);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    pen.scale(dense, dense);
    pen.clearRect(0, 0, width, height);
    const frameAt = (x) => view[0] + (x / width) * (view[1] - view[0]);
    const x = (frame) => ((frame - view[0]) / (view[1] - view[0])) * width;
    const shown = systems.filter((system) => system.on), head = 6 + 7 * shown.length;
    const tops = systems.flatMap((system) => [this.height(curves[system.at].top), this.height(system.high ?? 0)]);
    const most = Math.max(2.2, ...tops) * 1.05, y = (value) => head + (height - head - 6) * (1 - value / most);
    for (const [a, b] of video.truth || []) {
      pen.fillStyle = colour("truth");
      pen.fillRect(x(a), 0, Math.max(x(b) - x(a), 2), height);
    }
    pen.font = "11px system-ui, sans-serif";
    for (let k = 1; k <= most; k++) {
      pen.strokeStyle = colour("rule");
      pen.fillStyle = colour("soft");
      this.stroke(pen, [[0, y(k)], [width, y(k)]], 1, []);
      pen.fillText(`1 in ${(10 ** k).toLocaleString("en")}`, 4, y(k) - 3);
    }
    shown.forEach((system, row) => {
      const curve = curves[system.at], line = colour(`part${system.at % 4}`), points = [];
      pen.strokeStyle = line;
      pen.fillStyle = line;
      for (const [a, b] of curve.events) pen.fillRect(x(a), 3 + 7 * row, Math.max(x(b) - x(a), 2), 5);
      vadpipe.curves.columns(curve, frameAt, width, (at, low, high, down) => {
        points.push([at, y(this.height(down ? high : low))], [at, y(this.height(down ? low : high))]);
      });
      this.stroke(pen, points, 1.5, system.at < 4 ? [] : [5, 2]);
      if (system.high !== null) this.stroke(pen, [[0, y(this.height(system.high))], [width, y(this.height(system.high))]], 1, [2, 5]);
    });
  }

  stroke(pen, points, width, pattern) {
    pen.setLineDash(pattern);
    pen.lineWidth = width;
    pen.beginPath();
    for (const [x, y] of points) pen.lineTo(x, y);
    pen.stroke();
    pen.setLineDash([]);
  }

  hint(x) {
    const { tip, video, view } = this, width = this.chart.clientWidth;
    tip.hidden = x === null || !video?.curve?.systems.length;
    if (tip.hidden) return;
    const frame = Math.floor(view[0] + (x / width) * (view[1] - view[0]));
    const said = this.at(frame).filter((_, i) => this.systems[i].on).map(({ name, quantile }) => `${name} ${vadpipe.number(quantile)}`);
    tip.textContent = [vadpipe.timecode(frame / video.fps), ...said].join(" · ");
    tip.style.left = `${Math.min(Math.max(x, 90), width - 90)}px`;
  }
};
