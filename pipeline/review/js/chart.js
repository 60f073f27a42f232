// The score over time of one video: zoom, pan, events, labels, a threshold to drag.
"use strict";

vadpipe.Chart = class {
  // on.seek(frame), on.high(value), on.pick(event), on.drawn(video, view)
  constructor(on) {
    this.on = on;
    this.canvas = vadpipe.el("canvas", { role: "img", tabindex: "0" });
    this.tip = vadpipe.el("div.tip", { hidden: true });
    this.box = vadpipe.el("div.chart", {}, this.canvas, this.tip);
    this.video = null;
    this.parts = new Set();
    this.frame = null;
    this.pointers = new Map();
    new ResizeObserver(() => this.draw()).observe(this.box);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    this.listen();
  }

  show(video, state, entry) {
    const same = this.video === video;
    this.state = state;
    this.entry = entry;
    if (!same) {
      this.video = video;
      this.view = [video.start, Math.max(video.stop, video.start + 1)];
      this.frame = null;
    }
    if (!same && entry) this.zoomTo(entry);
    this.canvas.setAttribute("aria-label", `Score of ${video.name} over time, ${vadpipe.count(video.shown, "event")}`);
    this.draw();
  }

  // Long videos begin near the event; the whole is a double click away.
  zoomTo(entry) {
    const { start, stop, fps } = this.video, around = Math.max(60 * fps, 6 * (entry.stop - entry.start));
    if (stop - start <= 4 * around) return;
    const from = Math.max(start, entry.at - around / 2);
    this.view = [from, Math.min(stop, from + around)];
  }

  zoom(factor, frame) {
    const { start, stop } = this.video, [a, b] = this.view;
    const length = Math.min(Math.max((b - a) * factor, 20), stop - start);
    const from = Math.min(Math.max(frame - ((frame - a) / (b - a)) * length, start), stop - length);
    this.view = [from, from + length];
    this.draw();
  }

  pan(frames) {
    const { start, stop } = this.video, [a, b] = this.view;
    const by = Math.min(Math.max(frames, start - a), stop - b);
    this.view = [a + by, b + by];
    this.draw();
  }

  setFrame(frame) {
    this.frame = frame;
    this.draw();
  }

  x(frame) {
    return ((frame - this.view[0]) / (this.view[1] - this.view[0])) * this.width;
  }

  frameAt(x) {
    return this.view[0] + (x / this.width) * (this.view[1] - this.view[0]);
  }

  y(value) {
    const [low, high] = this.range;
    return 14 + (this.height - 32) * (1 - (value - low) / (high - low || 1));
  }

  valueAt(y) {
    const [low, high] = this.range;
    return low + (1 - (y - 14) / (this.height - 32)) * (high - low);
  }

  // The scale is that of this video and of the threshold, so that its shape is seen; sparklines in
  // the list of videos have one scale for all.
  measure() {
    const { high, low: release } = this.state.levels(this.video), { page } = this.state, { curve, peak } = this.video;
    const levels = [high, release].filter((level) => level >= page.scale.low && level <= page.scale.high);
    const low = Math.min(curve ? curve.bottom : page.scale.low, ...levels), top = Math.max(peak, ...levels);
    const margin = (top - low) * 0.06 || 1;
    this.range = [low - margin, top + margin];
    this.width = this.box.clientWidth;
    this.height = this.box.clientHeight;
    const dense = devicePixelRatio || 1;
    this.canvas.width = this.width * dense;
    this.canvas.height = this.height * dense;
    this.pen = this.canvas.getContext("2d");
    this.pen.scale(dense, dense);
    const style = getComputedStyle(this.box);
    this.colour = (name) => style.getPropertyValue(`--${name}`).trim();
  }

  draw() {
    if (!this.video || !this.box.clientWidth) return;
    this.on.drawn?.(this.video, this.view);
    this.measure();
    const { pen, width, height, video } = this, bottom = height - 18;
    pen.clearRect(0, 0, width, height);
    const band = (from, to, colour, top, tall) => {
      const left = this.x(from), wide = Math.max(this.x(to) - left, 2);
      if (left > width || left + wide < 0) return;
      pen.fillStyle = colour;
      pen.fillRect(left, top, wide, tall);
    };
    for (const [a, b] of video.truth || []) band(a, b, this.colour("truth"), 0, bottom);
    const entry = this.entry;
    if (entry && entry.video === video) band(entry.start, entry.stop, this.colour("chosen"), 0, bottom);
    for (const event of video.live || []) band(event.start, event.stop, this.colour("event"), 0, 6);
    for (const check of video.checks) band(check.start, check.stop, this.colour("check"), 7, 4);
    const corrected = entry && !entry.check && this.state.verdicts.of(video.id, entry.at);
    if (corrected && corrected.corrected_start !== null) band(corrected.corrected_start, corrected.corrected_stop, this.colour("accent"), 8, 3);
    this.axis(bottom);
    if (!video.curve) return;
    for (const part of video.curve.parts) if (this.parts.has(part.name)) this.line(part);
    this.curve(bottom);
    this.levels();
    this.scale(bottom);
    if (this.frame !== null) band(this.frame, this.frame, this.colour("ink"), 0, bottom);
  }

  axis(bottom) {
    const { pen, width, video } = this, [a, b] = this.view;
    const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200];
    const seconds = (b - a) / video.fps, step = steps.find((s) => (seconds / s) * 78 <= width) || 86400;
    pen.fillStyle = this.colour("soft");
    pen.strokeStyle = this.colour("rule");
    pen.font = "11px system-ui, sans-serif";
    pen.beginPath();
    for (let s = Math.ceil(a / video.fps / step) * step; s <= b / video.fps; s += step) {
      const x = this.x(s * video.fps);
      pen.moveTo(x, 0);
      pen.lineTo(x, bottom);
      if (x + 56 < width) pen.fillText(vadpipe.timecode(s, step < 1), x + 3, this.height - 5);
    }
    pen.stroke();
  }

  curve(bottom) {
    const { pen, width, video } = this;
    const path = new Path2D(), shade = new Path2D();
    shade.moveTo(0, bottom);
    vadpipe.curves.columns(video.curve, (x) => this.frameAt(x), width, (x, low, high, down) => {
      // On the way down the highest comes first: a step is a step, without a spike.
      path[x ? "lineTo" : "moveTo"](x, this.y(down ? high : low));
      path.lineTo(x, this.y(down ? low : high));
      shade.lineTo(x, this.y(high));
    });
    shade.lineTo(width, bottom);
    pen.fillStyle = this.colour("shade");
    pen.fill(shade);
    pen.strokeStyle = this.colour("line");
    pen.lineWidth = 1.5;
    pen.stroke(path);
  }

  // Another score column, stretched to the height of the chart: its shape counts, not its unit.
  line(part) {
    const { pen } = this;
    let low = Infinity, high = -Infinity;
    for (const value of part.values) {
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
    pen.strokeStyle = this.colour(`part${[...this.video.curve.parts].indexOf(part) % 4}`);
    pen.lineWidth = 1;
    pen.beginPath();
    for (let i = 0; i < part.values.length; i++) {
      const y = 16 + (this.height - 36) * (1 - (part.values[i] - low) / (high - low || 1));
      pen[i ? "lineTo" : "moveTo"](this.x(part.frames[i]), y);
    }
    pen.stroke();
  }

  levels() {
    const { pen, width } = this, { high, low } = this.state.levels(this.video);
    const dash = (value, pattern, colour) => {
      if (!Number.isFinite(value)) return;
      pen.setLineDash(pattern);
      pen.strokeStyle = colour;
      pen.lineWidth = 1.2;
      pen.beginPath();
      pen.moveTo(0, this.y(value));
      pen.lineTo(width, this.y(value));
      pen.stroke();
      pen.setLineDash([]);
    };
    if (low !== high) dash(low, [2, 4], this.colour("soft"));
    dash(high, [6, 4], this.colour("event"));
    if (!Number.isFinite(high)) return;
    pen.fillStyle = this.colour("event");
    pen.beginPath();
    pen.roundRect(width - 15, this.y(high) - 7, 13, 14, 4);
    pen.fill();
  }

  // Scores at the left, for those who want numbers.
  scale(bottom) {
    if (document.documentElement.dataset.expert !== "true") return;
    this.pen.fillStyle = this.colour("soft");
    this.pen.font = "11px system-ui, sans-serif";
    for (const y of [16, bottom / 2, bottom - 6]) this.pen.fillText(vadpipe.number(this.valueAt(y)), 4, y + 4);
  }

  // How near the pointer is to the line of the threshold.
  grips(y) {
    const { high } = this.state.levels(this.video);
    return Number.isFinite(high) && Math.abs(y - this.y(high)) <= 9;
  }

  listen() {
    const { canvas } = this, place = (event) => [event.offsetX, event.offsetY];
    canvas.addEventListener("wheel", (event) => {
      if (!this.video) return;
      event.preventDefault();
      if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) this.pan(((this.view[1] - this.view[0]) * event.deltaX) / 800);
      else this.zoom(Math.exp(event.deltaY / 400), this.frameAt(event.offsetX));
    }, { passive: false });
    canvas.addEventListener("dblclick", () => {
      this.view = [this.video.start, Math.max(this.video.stop, this.video.start + 1)];
      this.draw();
    });
    canvas.addEventListener("pointerdown", (event) => {
      const [x, y] = place(event);
      canvas.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, x);
      this.drag = { x, far: 0, grip: this.video.curve && this.grips(y) };
    });
    canvas.addEventListener("pointermove", (event) => this.move(event, ...place(event)));
    const end = (event) => {
      const drag = this.drag;
      this.pointers.delete(event.pointerId);
      if (this.pointers.size || !drag) return;
      this.drag = null;
      if (event.type === "pointerup" && !drag.grip && drag.far < 5) this.click(event.offsetX);
    };
    canvas.addEventListener("pointerup", end);
    canvas.addEventListener("pointercancel", end);
    canvas.addEventListener("pointerleave", () => this.hint(null));
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  move(event, x, y) {
    if (!this.video) return;
    const before = this.pointers.get(event.pointerId);
    if (before === undefined) {
      this.canvas.style.cursor = this.video.curve && this.grips(y) ? "ns-resize" : "crosshair";
      this.hint(x);
      return;
    }
    if (this.drag?.grip) this.on.high(this.valueAt(y));
    else if (this.pointers.size === 2) {
      const other = [...this.pointers].find(([id]) => id !== event.pointerId)[1];
      this.zoom(Math.abs(before - other) / Math.max(Math.abs(x - other), 8), this.frameAt((x + other) / 2));
    } else {
      this.drag.far = Math.max(this.drag.far, Math.abs(x - this.drag.x));
      if (this.drag.far >= 5) this.pan(((before - x) / this.width) * (this.view[1] - this.view[0]));
    }
    this.pointers.set(event.pointerId, x);
  }

  click(x) {
    const frame = Math.floor(this.frameAt(x)), slack = (3 / this.width) * (this.view[1] - this.view[0]);
    const event = (this.video.live || []).find((each) => frame >= each.start - slack && frame < each.stop + slack);
    if (event && this.entry?.at !== event.at) this.on.pick(event, frame);
    else this.on.seek(frame);
  }

  key(event) {
    const by = { ArrowLeft: -0.1, ArrowRight: 0.1 }[event.key], centre = (this.view[0] + this.view[1]) / 2;
    if (by) this.pan(by * (this.view[1] - this.view[0]));
    else if (event.key === "+" || event.key === "=") this.zoom(0.7, centre);
    else if (event.key === "-") this.zoom(1.4, centre);
    else return;
    event.preventDefault();
  }

  hint(x) {
    const { video, tip } = this;
    tip.hidden = x === null || !video?.curve;
    if (tip.hidden) return;
    const frame = Math.floor(this.frameAt(x)), value = vadpipe.curves.scoreAt(video.curve, frame);
    tip.textContent = `${vadpipe.timecode(frame / video.fps)} · frame ${frame} · score ${vadpipe.number(value)}`;
    tip.style.left = `${Math.min(Math.max(x, 90), this.width - 90)}px`;
  }
};
