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
    this.places = [...new Set(this.videos.map((video) => video.camera).filter(Boolean))].sort();
    this.cameras = this.places.length;
    this.camera = ""; // the camera that the slider moves; "" is all
    this.own = new Map(); // camera -> its own threshold
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
      ...stored, index, name, place, camera: stored.scene ? place : "", media: [], checkMedia: [], checks: [], curve: null, live: null, shown: stored.events,
      known: new Map(), // peak -> event or moment of the score folder
      where: place === name ? name : `${place} · ${name}`,
      words: `${name} ${place}`.toLowerCase(), seconds: (stored.stop - stored.start) / stored.fps,
    };
  }

  // Events or moments of a data file, column by column.
  add(columns) {
    const { id, video, start, stop, at, peak, mean, explain, moments } = columns, why = columns.words || {};
    for (let i = 0; i < id.length; i++) {
      const own = this.videos[video[i]];
      const entry = vadpipe.entry(id[i], own, start[i], stop[i], at[i], peak[i], mean[i], explain[i] || "", moments, "", why[i] || "");
      this.stored.push(entry);
      if (!own.known.has(entry.at)) own.known.set(entry.at, entry);
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

  // Whether the threshold of some camera is another one than in the score folder.
  get moved() {
    return this.high !== this.base.high || this.own.size > 0;
  }

  // Whether that of this video is.
  isMoved(video) {
    return this.high !== this.base.high || this.own.has(video.camera);
  }

  // The levels of a video: those that were chosen for its camera, else those of its scene, where it
  // has some, until the slider moves all. Frames go on above the release level, which is never above
  // the threshold.
  levels(video) {
    const own = this.own.get(video.camera), scene = this.high === this.base.high ? video.levels : null;
    if (own === undefined) return scene ? { high: scene[0], low: scene[1] } : this.released(this.high, this.base.low);
    return this.released(own, scene ? scene[1] : this.base.low);
  }

  released(high, low) {
    return { high, low: low === null ? high : Math.min(low, high) };
  }

  // What the slider shows: the threshold of the chosen camera, or of all.
  get level() {
    return this.camera ? this.levels(this.videos.find((video) => video.camera === this.camera)).high : this.high;
  }

  // Where Reset goes: that of the score folder; of a chosen camera, once all were moved, theirs.
  get rest() {
    if (!this.camera) return this.base.high;
    const { levels } = this.videos.find((video) => video.camera === this.camera);
    return levels && this.high === this.base.high ? levels[0] : this.high;
  }

  get atRest() {
    return this.camera ? !this.own.has(this.camera) : !this.moved;
  }

  // Moves the chosen camera. Where none is chosen all move, those with a threshold of their own too.
  set(high) {
    if (!this.camera) {
      this.high = high;
      this.own.clear();
    } else if (high === this.rest) this.own.delete(this.camera);
    else this.own.set(this.camera, high);
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
    const all = [];
    for (const video of this.videos) {
      const { high, low } = this.levels(video);
      video.above = this.isMoved(video) ? (video.curve ? Infinity : high) : -Infinity; // which stored ones are events
      if (video.above === Infinity) vadpipe.curves.findEvents(video.curve, high, low, video.lengths, video, all);
    }
    for (const entry of this.stored) if (!entry.moment && entry.peak > entry.video.above) all.push(entry);
    return all;
  }

  // How many events there are, and those of one video: what has to be seen while the threshold moves.
  // An archive has a hundred thousand, and their list follows when it rests.
  glance(high, open) {
    this.set(high);
    this.count = 0;
    for (const video of this.videos) {
      const levels = this.levels(video);
      if (!this.isMoved(video)) video.shown = video.events;
      else if (video.curve) video.shown = vadpipe.curves.findBorders(video.curve, levels.high, levels.low, video.lengths).length / 2;
      this.count += video.shown;
    }
    if (open?.curve) open.live = this.liveEvents(open);
  }

  update() {
    const begin = performance.now();
    this.renew();
    this.listed = this.level;
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
    if (!this.moved || this.own.size || !this.page.chunks.all) for (const video of this.videos) video.live.sort((a, b) => a.start - b.start);
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
    if (text && !entry.video.words.includes(text)) {
      const { words, numbers } = this.reason(entry);
      if (!`${numbers} ${entry.check} ${words}`.toLowerCase().includes(text)) return false;
    }
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
    const known = entry.id || !this.moved ? entry : entry.video.known.get(entry.at) || entry;
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
