// Verdicts: kept in the browser, written to a file on request. A verdict belongs to the peak of a
// moment, which stays where it is when the threshold moves, and to a video by its id and its content.
// One place keeps those of all pages of a model; a page shows those of its own videos. Several tabs may
// be open: of two verdicts about one moment the later one counts, also where it was taken back.
// A model that learnt from verdicts shares the place of the model before it. Its peaks may lie elsewhere, so a
// verdict about another model holds for an event whose peak lies within the event that was judged.
"use strict";

vadpipe.Verdicts = class {
  constructor(page) {
    this.page = page;
    this.place = `vadpipe-review:${page.id}`;
    this.contents = new Map(page.videos.map((video) => [video.id, video.content]));
    this.kept = new Map();
    this.before = null; // video -> verdicts about other models, made when it is asked for
    this.gone = new Map(); // taken back: what another tab still has is older
    this.problem = "";
    this.changed = () => {};
    this.merged = () => {};
    addEventListener("storage", (event) => {
      if (event.key === this.place || event.key === null) this.merge();
    });
    try {
      this.take(this.stored());
    } catch (error) {
      this.problem = `This browser keeps no verdicts (${error.name}). Export them before you close the page.`;
    }
  }

  stored() {
    const text = localStorage.getItem(this.place);
    return text ? JSON.parse(text) : [];
  }

  // Whether it is about a video of this page, and about the file that the page was written of.
  fits(each) {
    return this.contents.has(each?.video_id) && this.contents.get(each.video_id) === (each.content_id ?? null);
  }

  static key(video, at) {
    return `${at}@${video}`;
  }

  of(video, at) {
    return this.kept.get(vadpipe.Verdicts.key(video, at)) || this.carried(video, at);
  }

  // The latest verdict about another model whose event holds this peak.
  carried(video, at) {
    if (this.before === null) {
      this.before = new Map();
      for (const each of this.kept.values()) {
        if (each.by === this.page.key) continue;
        const list = this.before.get(each.video_id) || [];
        list.push(each);
        this.before.set(each.video_id, list);
      }
      const time = vadpipe.Verdicts.time;
      for (const list of this.before.values()) list.sort((a, b) => time(b) - time(a));
    }
    return (this.before.get(video) || []).find((each) => each.frame_start <= at && at < each.frame_stop) || null;
  }

  // When a verdict was given; a time that is none, or in the future of a wrong clock, wins nothing.
  static time(each) {
    return Math.min(Date.parse(each?.when) || 0, Date.now());
  }

  static empty(each) {
    return !each.verdict && !each.note && each.corrected_start === null && each.corrected_stop === null;
  }

  keep(key, each) {
    const empty = vadpipe.Verdicts.empty(each);
    (empty ? this.kept : this.gone).delete(key);
    (empty ? this.gone : this.kept).set(key, each);
    this.before = null;
  }

  // Another tab has written: take what is later, and show it.
  merge() {
    try {
      this.take(this.stored());
    } catch {
      return; // what cannot be read changes nothing
    }
    this.merged();
  }

  // Change what is known of a moment; without verdict, note and borders it is forgotten.
  put(entry, change) {
    const key = vadpipe.Verdicts.key(entry.video.id, entry.at);
    const { id, content, fps } = entry.video;
    const none = { verdict: null, note: "", corrected_start: null, corrected_stop: null };
    const known = this.of(id, entry.at) || { video_id: id, content_id: content, ...none };
    const next = {
      ...known, ...change,
      event_id: entry.id, moment: entry.moment, peak_frame: entry.at, peak_score: entry.peak,
      frame_start: entry.start, frame_stop: entry.stop, fps, by: this.page.key,
      when: new Date(Math.max(Date.now(), vadpipe.Verdicts.time(known) + 1)).toISOString(),
    };
    const old = vadpipe.Verdicts.key(id, known.peak_frame ?? entry.at);
    if (old !== key) this.keep(old, { ...known, ...none, when: next.when }); // what it said holds for this peak now
    this.keep(key, next);
    this.save();
  }

  save() {
    try {
      const others = this.others();
      localStorage.setItem(this.place, JSON.stringify([...others, ...this.kept.values(), ...this.gone.values()]));
      this.problem = "";
    } catch (error) {
      this.problem = `This browser has no room for the verdicts (${error.name}). Export them now.`;
    }
    this.changed();
  }

  // What other pages of the model have kept in the meantime; what other tabs of this one have is taken.
  others() {
    try {
      const list = this.stored();
      this.take(list);
      return Array.isArray(list) ? list.filter((each) => each && !this.fits(each)) : [];
    } catch (error) {
      if (error instanceof SyntaxError) return []; // no page has written this
      throw error;
    }
  }

  // Add what a list says; entries that are no verdicts, about other videos, or older than what is known
  // are left out. Returns how many were taken.
  take(list) {
    const whole = (n) => Number.isSafeInteger(n) && n >= 0;
    const border = (n) => (whole(n) ? n : null);
    let taken = 0;
    for (const each of Array.isArray(list) ? list : []) {
      if (!each || typeof each.video_id !== "string" || ![each.peak_frame, each.frame_start, each.frame_stop].every(whole)) continue;
      if (!this.fits(each)) continue;
      const key = vadpipe.Verdicts.key(each.video_id, each.peak_frame), known = this.kept.get(key) || this.gone.get(key);
      if (known && vadpipe.Verdicts.time(known) > vadpipe.Verdicts.time(each)) continue;
      this.keep(key, {
        video_id: each.video_id, content_id: each.content_id ?? null,
        event_id: typeof each.event_id === "string" ? each.event_id : null,
        moment: each.moment === true,
        verdict: ["accept", "reject", "unsure"].includes(each.verdict) ? each.verdict : null,
        note: typeof each.note === "string" ? each.note : "",
        frame_start: each.frame_start, frame_stop: each.frame_stop, peak_frame: each.peak_frame,
        peak_score: Number(each.peak_score), fps: Number(each.fps),
        by: typeof each.by === "string" ? each.by : this.page.first,
        corrected_start: border(each.corrected_start), corrected_stop: border(each.corrected_stop),
        when: typeof each.when === "string" ? each.when : "",
      });
      taken += 1;
    }
    return taken;
  }

  read(text) {
    const values = JSON.parse(text);
    if (!values || values.format !== "vadpipe verdicts") throw new Error("this is no file of verdicts");
    const { id, column } = this.page;
    if (values.column !== column) throw new Error(`it is about the score column ${values.column}, this page shows ${column}`);
    if (values.page !== id) throw new Error("it was saved on the page of another model: open that page, or judge here");
    const taken = this.take(values.verdicts);
    this.save();
    return { taken, left: (Array.isArray(values.verdicts) ? values.verdicts.length : 0) - taken };
  }

  rows() {
    const order = (a, b) => (a.video_id < b.video_id ? -1 : a.video_id > b.video_id ? 1 : a.peak_frame - b.peak_frame);
    return [...this.kept.values()].sort(order).map((kept) => ({
      ...kept,
      start_s: kept.frame_start / kept.fps,
      end_s: kept.frame_stop / kept.fps,
    }));
  }

  json(threshold, thresholds) {
    const { id, dataset, detector, model, column } = this.page;
    const about = { format: "vadpipe verdicts", version: 1, page: id, dataset, detector, model, column, threshold, thresholds };
    return `${JSON.stringify({ ...about, verdicts: this.rows() }, null, 1)}\n`;
  }

  csv() {
    const columns = [
      "video_id", "event_id", "verdict", "note", "frame_start", "frame_stop", "start_s", "end_s",
      "corrected_start", "corrected_stop", "peak_frame", "peak_score", "fps", "by", "when", "content_id", "moment",
    ];
    // A spreadsheet computes what begins so.
    const cell = (value) => {
      if (value === null || value === undefined) return "";
      let text = typeof value === "number" ? String(value) : vadpipe.plain(value.replace?.(/\r?\n/g, " ") ?? value);
      if (typeof value !== "number" && /^\s*[=+\-@]/.test(text)) text = `'${text}`;
      return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    return [columns.join(","), ...this.rows().map((row) => columns.map((name) => cell(row[name])).join(","))].join("\r\n") + "\r\n";
  }
};

// What the buttons say to the detector.
vadpipe.MEANING = {
  accept: "Accept: this is unusual.",
  reject: "Reject: false alarm; vadpipe feedback learns it as normal.",
  unsure: "Unsure: neither; nothing is learnt from it.",
};

vadpipe.download = (name, text, type) => {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const link = vadpipe.el("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
};
