// What is shown: videos, events at the chosen threshold, moments, and the order and choice of them.
"use strict";

vadpipe.State = class {
  constructor(page) {
    this.page = page;
    this.videos = page.videos.map((stored, index) => this.video(stored, index));
    this.byId = new Map(this.videos.map((video) => [video.id, video]));
    this.media = page.media.map((stored, index) => ({ ...stored, index, video: this.videos[stored.video] }));
    for (const each of this.media) (each.check ? each.video.checkMedia : each.video.media).push(each);
    const { high, low } = page.threshold;
    this.cameras = new Set(this.videos.filter((video) => video.scene).map((video) => video.place)).size;
    this.base = { high: high === null ? Infinity : high, low };
    this.high = this.base.high;
    this.entries = [];
    this.stored = []; // events of the score folder, then moments
    this.filter = { text: "", kind: "events", verdict: "any" };
    this.order = "peak";
    this.verdicts = new vadpipe.Verdicts(page);
    this.add(page.events);
    this.add(page.moments);
    this.addChecks(page.checks);
  }

  video(stored, index) {
    const name = vadpipe.plain(stored.id), place = stored.scene ? vadpipe.plain(stored.scene) : name;
    return {
      ...stored, index, name, place, media: [], checkMedia: [], checks: [], curve: null, live: null, shown: stored.events,
      where: place === name ? name : `${place} · ${name}`,
      words: `${name} ${place}`.toLowerCase(), seconds: (stored.stop - stored.start) / stored.fps,
    };
  }

  // Events or moments of a data file, column by column.
  add(columns) {
    const { id, video, start, stop, at, peak, mean, explain, moments } = columns, why = columns.words || {};
    for (let i = 0; i < id.length; i++) {
      const own = this.videos[video[i]];
      this.stored.push(vadpipe.entry(id[i], own, start[i], stop[i], at[i], peak[i], mean[i], explain[i] || "", moments, "", why[i] || ""));
    }
  }

  // Checks of the camera: events of their own, which no threshold of the page moves.
  addChecks(columns) {
    this.checks = [];
    if (!columns) return;
    const { id, video, start, stop, at, peak, mean, explain, reason } = columns;
    for (let i = 0; i < id.length; i++) {
      const own = this.videos[video[i]];
      this.checks.push(vadpipe.entry(id[i], own, start[i], stop[i], at[i], peak[i], mean[i], explain[i] || "", false, reason[i]));
      own.checks.push(this.checks[i]);
    }
    for (const each of this.videos) each.checks.sort((a, b) => a.start - b.start);
  }

  get low() {
    return this.base.low === null ? this.high : Math.min(this.base.low, this.high);
  }

  get moved() {
    return this.high !== this.base.high;
  }

  // The levels of a video: those of its scene, where it has some, until the slider moves.
  levels(video) {
    if (!this.moved && video.levels) return { high: video.levels[0], low: video.levels[1] };
    return { high: this.high, low: this.low };
  }

  // Frames go on above the release level, which is never above the threshold.
  setHigh(high) {
    this.high = high;
    this.update();
  }

  setCurve(video, stored) {
    if (!video.curve) video.curve = vadpipe.curves.decode(stored);
  }

  liveEvents(video) {
    const { high, low } = this.levels(video);
    return vadpipe.curves.findEvents(video.curve, high, low, video.lengths, video);
  }

  // Events at the threshold: those of the score folder where it is theirs, else found again. Of a
  // video whose curve is not loaded, those of the score folder that have a peak above it.
  events() {
    if (!this.moved) return this.stored.filter((entry) => !entry.moment);
    const all = [], { low } = this;
    for (const video of this.videos) if (video.curve) vadpipe.curves.findEvents(video.curve, this.high, low, video.lengths, video, all);
    for (const entry of this.stored) if (!entry.moment && !entry.video.curve && entry.peak > this.high) all.push(entry);
    return all;
  }

  // How many events there are, and those of one video: what has to be seen while the threshold moves.
  // An archive has a hundred thousand, and their list follows when it rests.
  glance(high, open) {
    this.high = high;
    this.count = 0;
    for (const video of this.videos) {
      const levels = this.levels(video);
      if (video.curve) video.shown = vadpipe.curves.findBorders(video.curve, levels.high, levels.low, video.lengths).length / 2;
      this.count += video.shown;
    }
    if (open?.curve) open.live = this.liveEvents(open);
  }

  update() {
    const begin = performance.now();
    this.renew();
    this.listed = this.high;
    this.heavy = performance.now() - begin > 30;
  }

  renew() {
    const events = this.events();
    for (const video of this.videos) {
      video.shown = 0;
      video.live = [];
    }
    for (const event of events) {
      event.video.shown += 1;
      event.video.live.push(event);
    }
    this.count = events.length;
    if (!this.moved || !this.page.chunks.all) for (const video of this.videos) video.live.sort((a, b) => a.start - b.start);
    this.wide = this.filter.kind === "all" || (this.filter.kind === "events" && !events.length);
    const entries = this.filter.kind === "checks" ? [...this.checks] : events;
    if (this.wide) for (const entry of this.stored) if (!this.covered(entry)) entries.push({ ...entry, moment: true });
    const some = this.filter.text || this.filter.verdict !== "any";
    this.entries = this.sorted(some ? entries.filter((entry) => this.passes(entry)) : entries);
  }

  // The event at the threshold that holds the peak of a moment.
  eventAt(video, frame) {
    let low = 0, high = video.live.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1, event = video.live[middle];
      if (frame < event.start) high = middle - 1;
      else if (frame >= event.stop) low = middle + 1;
      else return event;
    }
    return null;
  }

  covered(entry) {
    return this.eventAt(entry.video, entry.at) !== null;
  }

  passes(entry) {
    const { text, verdict } = this.filter;
    const words = `${entry.explain} ${entry.check} ${entry.why}`.toLowerCase();
    if (text && !entry.video.words.includes(text) && !words.includes(text)) return false;
    if (verdict === "any" || entry.check) return true;
    const said = this.verdicts.of(entry.video.id, entry.at)?.verdict || "none";
    return said === verdict;
  }

  // Stable: equal entries stay in the order of videos and time.
  sorted(entries) {
    if (this.order === "peak") return vadpipe.byPeak(entries);
    const length = (entry) => (entry.stop - entry.start) / entry.video.fps;
    const orders = {
      time: (a, b) => a.video.index - b.video.index || a.start - b.start,
      length: (a, b) => length(b) - length(a),
    };
    return entries.sort(orders[this.order]);
  }

  // Where an entry stands in the list; -1 if the filter leaves it out.
  indexOf(entry) {
    return entry ? this.entries.findIndex((each) => each.at === entry.at && each.video === entry.video && each.check === entry.check) : -1;
  }

  // The check of the camera of a link.
  checkAt(video, frame) {
    return video.checks.find((check) => check.at === frame) || null;
  }

  // The entry of a link: an event or moment with this peak, or the event that holds it.
  entryAt(video, frame) {
    const same = (entry) => entry.video === video && entry.at === frame;
    return video.live.find((event) => event.at === frame) || this.stored.find(same) || this.eventAt(video, frame);
  }

  // The pictures of an entry: those of its peak, or of another peak inside of it.
  mediaOf(entry) {
    const inside = (media) => media.frame >= entry.start && media.frame < entry.stop;
    const own = entry.check ? entry.video.checkMedia : entry.video.media;
    return own.find((media) => media.frame === entry.at) || own.find(inside) || null;
  }

  // How unusual, in words: compared with the threshold, and with all normal footage of the model.
  severity(entry) {
    if (entry.check) return { level: 3, words: entry.check };
    const { top } = this.page.threshold, { high } = this.levels(entry.video);
    if (entry.moment && !(entry.peak > high)) return { level: 0, words: "a little unusual" };
    if (top !== null && entry.peak > Math.max(top, high)) return { level: 2, words: "very unusual" };
    return { level: 1, words: "unusual" };
  }

  // Why, for a guard and in numbers: an event that was found again while the threshold moved has
  // the reason of the stored one with the same peak.
  reason(entry) {
    const same = (each) => each.video === entry.video && each.at === entry.at;
    const known = entry.id || !this.moved ? entry : this.stored.find(same) || entry;
    const words = vadpipe.plain(known.why || this.page.words || "");
    return { words: entry.check ? "" : words.charAt(0).toUpperCase() + words.slice(1), numbers: vadpipe.plain(known.explain) };
  }

  // What a guard says on the phone.
  caption(entry) {
    const { fps } = entry.video;
    return {
      ...this.severity(entry),
      clock: vadpipe.timecode(entry.start / fps, false),
      lasts: vadpipe.duration((entry.stop - entry.start) / fps),
      place: entry.video.place,
    };
  }
};

// Entries by their peak, highest first. Sorting numbers is several times as fast as sorting objects
// with a function: a key of 32 bits of the peak and 21 bits of the place, then equal keys by hand.
vadpipe.byPeak = (entries) => {
  const MOST = 1 << 21, n = entries.length;
  if (n > MOST) return entries.sort((a, b) => b.peak - a.peak);
  const peaks = new Float32Array(n);
  for (let i = 0; i < n; i++) peaks[i] = entries[i].peak;
  const bits = new Int32Array(peaks.buffer), keys = new Float64Array(n);
  for (let i = 0; i < n; i++) {
    const ascending = bits[i] < 0 ? -1 - (bits[i] & 0x7fffffff) : bits[i];
    keys[i] = -ascending * MOST + i;
  }
  keys.sort();
  const out = new Array(n);
  for (let i = 0; i < n; i++) {
    const entry = entries[((keys[i] % MOST) + MOST) % MOST];
    let at = i;
    while (at > 0 && out[at - 1].peak < entry.peak) {
      out[at] = out[at - 1];
      at -= 1;
    }
    out[at] = entry;
  }
  return out;
};
