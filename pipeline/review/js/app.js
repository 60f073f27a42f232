// The page: lists, threshold, links, keys.
"use strict";

vadpipe.App = class {
  constructor(page) {
    const find = (id) => document.getElementById(id);
    this.state = new vadpipe.State(page);
    this.find = find;
    this.tab = "events";
    this.detail = new vadpipe.Detail(this.state, {
      high: (value) => this.drag(value), pick: (entry) => this.open(entry), back: () => this.go(""),
    });
    this.events = new vadpipe.List(find("list"), {
      height: 92, label: "events", make: () => this.eventRow(),
      fill: (row, i) => this.fillEvent(row, this.state.entries[i]), open: (i) => this.open(this.state.entries[i]),
    });
    const offer = find("kind").querySelector("[value=checks]");
    if (page.checks) offer.textContent = `Scene checks (${this.state.checks.length.toLocaleString("en")})`;
    else offer.remove();
    this.ranked = [...this.state.videos].sort((a, b) => b.peak - a.peak);
    this.state.update();
    this.header();
    this.state.verdicts.changed = () => this.judged();
    this.state.verdicts.merged = () => {
      this.judged();
      this.detail.reread();
    };
    addEventListener("hashchange", () => {
      if (location.hash !== this.routed) this.route();
    });
    addEventListener("keydown", (event) => this.key(event));
    this.lists();
    this.route();
    this.ready = this.rest();
  }

  // -- what comes after the first picture of the page ------------------------------------------

  async rest() {
    const { page } = this.state;
    try {
      for (let i = 0; i < page.chunks.events; i++) {
        this.state.add(await vadpipe.load(`events-${i}`));
      }
      if (page.chunks.events) {
        this.changed();
        if (location.hash.startsWith("#event/") && !this.detail.entry) this.route(); // it came just now
      }
      if (page.chunks.all) await this.curves();
    } catch (error) {
      this.problem(error.message);
    }
    document.documentElement.dataset.ready = "true";
  }

  // With all curves at hand the threshold moves the events of all videos.
  async curves() {
    for (let i = 0; i < this.state.page.chunks.scores; i++) {
      const stored = await vadpipe.load(`scores-${i}`);
      stored.curves.forEach((curve, k) => this.state.setCurve(this.state.videos[stored.first + k], curve));
    }
    if (this.state.moved) this.changed();
  }

  problem(text) {
    const box = this.find("problem");
    box.textContent = text;
    box.hidden = !text;
  }

  // -- header ------------------------------------------------------------------------------------

  header() {
    const { find, state } = this, slider = find("slider"), { scale } = state.page;
    this.toValue = (at) => (at >= 1000 ? Infinity : scale.low + ((scale.high - scale.low) * at) / 1000);
    this.toPlace = (value) => (Number.isFinite(value) ? Math.round((1000 * (value - scale.low)) / (scale.high - scale.low || 1)) : 1000);
    slider.addEventListener("input", () => this.high(this.toValue(Number(slider.value))));
    find("reset").addEventListener("click", () => this.high(state.rest));
    this.choices();
    find("number").addEventListener("change", (event) => {
      const value = Number(event.target.value);
      if (event.target.value.trim() && Number.isFinite(value)) this.high(value);
    });
    find("filter").addEventListener("input", (event) => {
      state.filter.text = event.target.value.trim().toLowerCase();
      this.changed();
    });
    for (const name of ["kind", "verdict"]) {
      find(name).addEventListener("change", (event) => {
        state.filter[name] = event.target.value;
        this.changed();
      });
    }
    find("order").addEventListener("change", (event) => {
      state.order = event.target.value;
      this.changed();
    });
    for (const tab of ["events", "videos"]) find(`tab-${tab}`).addEventListener("click", () => this.show(tab));
    find("expert").addEventListener("change", (event) => {
      document.documentElement.dataset.expert = String(event.target.checked);
      this.detail.chart.draw();
    });
    find("help").addEventListener("click", () => vadpipe.help());
    const high = () => (Number.isFinite(state.high) ? state.high : null);
    find("save-csv").addEventListener("click", () => vadpipe.download("verdicts.csv", state.verdicts.csv(), "text/csv"));
    const own = () => [...state.own].map(([camera, value]) => ({ camera, threshold: Number.isFinite(value) ? value : null }));
    find("save-json").addEventListener("click", () => vadpipe.download("verdicts.json", state.verdicts.json(high(), own()), "application/json"));
    find("read").addEventListener("change", (event) => this.read(event.target));
    find("home").addEventListener("click", () => this.go(""));
    this.level();
  }

  // Which cameras the threshold moves: all, or one alone.
  choices() {
    const { find, state } = this, { el } = vadpipe, select = find("camera");
    find("moves").hidden = state.cameras < 2;
    if (state.cameras < 2) return;
    const named = state.places.map((place, i) => el("option", { value: String(i), text: place }));
    select.replaceChildren(el("option", { value: "", text: `all ${state.cameras} cameras` }), ...named);
    select.addEventListener("change", () => this.choose(select.value === "" ? "" : state.places[Number(select.value)]));
  }

  choose(camera) {
    this.state.camera = camera;
    this.find("camera").value = camera ? String(this.state.places.indexOf(camera)) : "";
    this.changed();
  }

  // The threshold in the curve is that of its camera: where one is chosen, it becomes this one. A
  // video without a scene has the threshold of all.
  drag(value) {
    const { video } = this.detail;
    if (this.state.camera && video.camera !== this.state.camera) this.choose(video.camera);
    this.high(value);
  }

  async read(input) {
    const [file] = input.files;
    input.value = "";
    if (!file) return;
    try {
      const { taken, left } = this.state.verdicts.read(await file.text());
      const others = left ? ` ${left.toLocaleString("en")} left out: not about a video of this page, its file is another one now, or judged later here.` : "";
      this.problem(`${vadpipe.count(taken, "verdict")} read.${others}`);
    } catch (error) {
      this.problem(`${vadpipe.plain(file.name)} was not read: ${vadpipe.plain(error.message)}.`);
    }
    this.changed();
  }

  level() {
    const { find, state } = this;
    const { level } = state;
    find("slider").value = String(this.toPlace(level));
    find("number").value = Number.isFinite(level) ? String(Number(level.toPrecision(6))) : "";
    find("reset").hidden = state.atRest;
    find("counted").textContent = vadpipe.count(state.count, "event");
    find("slider").setAttribute("aria-valuetext", `${vadpipe.number(level)}, ${vadpipe.count(state.count, "event")}`);
    const some = state.moved && !state.page.chunks.all ? " The score folder is too large to move the threshold of all videos here: videos that are not open show what it has." : "";
    const scenes = state.high === state.base.high && state.videos.some((video) => video.levels) ? " Some videos have the threshold of their scene." : "";
    const own = state.own.size ? ` ${vadpipe.count(state.own.size, "camera")} with a threshold chosen here.` : "";
    find("level").title = `Threshold ${vadpipe.number(level)}${state.camera ? ` of ${state.camera}` : ""}.${scenes}${own}${some}`;
  }

  high(value) {
    if (this.waits) {
      this.next = value;
      return;
    }
    this.waits = true;
    this.next = value;
    requestAnimationFrame(() => {
      this.waits = false;
      clearTimeout(this.later);
      if (this.state.heavy && this.state.page.chunks.all) {
        this.state.glance(this.next, this.detail.video);
        this.level();
        this.detail.refresh();
        this.later = setTimeout(() => this.changed(), 150);
      } else {
        this.state.set(this.next);
        this.changed();
      }
    });
  }

  // -- lists -------------------------------------------------------------------------------------

  changed(update = true) {
    if (update) this.state.update();
    this.level();
    this.lists();
    this.detail.refresh();
    if (!this.detail.video) this.home();
  }

  judged() {
    const { verdicts } = this.state;
    if (verdicts.problem) this.problem(verdicts.problem);
    if (this.state.filter.verdict !== "any") this.changed();
    else {
      this.list.refresh();
      if (this.detail.video) {
        this.detail.marks();
        this.detail.list();
      } else this.home();
    }
    this.find("judged").textContent = verdicts.kept.size ? `${verdicts.kept.size} judged` : "";
  }

  lists() {
    const { find, state } = this;
    if (this.tab === "events") {
      this.list = this.events;
      this.events.show(state.entries.length, state.indexOf(this.detail.entry));
    } else {
      const { text } = state.filter;
      this.shown = text ? this.ranked.filter((video) => video.words.includes(text)) : this.ranked;
      this.list = this.videos;
      this.videos.show(this.shown.length, this.shown.indexOf(this.detail.video));
    }
    const empty = this.tab === "events" ? !state.entries.length : !this.shown.length;
    find("empty").hidden = !empty;
    find("judged").textContent = state.verdicts.kept.size ? `${state.verdicts.kept.size} judged` : "";
    find("found").textContent = this.tab === "events" ? vadpipe.count(state.entries.length, this.filtered()) : vadpipe.count(this.shown.length, "video");
    if (state.verdicts.problem) this.problem(state.verdicts.problem);
  }

  // What the list of events holds.
  filtered() {
    if (this.state.filter.kind === "checks") return "scene check";
    return this.state.wide ? "moment" : "event";
  }

  show(tab) {
    if (tab === "videos" && !this.videos) {
      this.videos = new vadpipe.List(this.find("video-list"), {
        height: 68, label: "videos", make: () => this.videoRow(), fill: (row, i) => this.fillVideo(row, this.shown[i]),
        open: (i) => this.go(`video/${this.shown[i].index}/${this.name(this.shown[i])}`),
      });
    }
    this.tab = tab;
    for (const each of ["events", "videos"]) this.find(`tab-${each}`).setAttribute("aria-pressed", String(each === tab));
    this.find("list").hidden = tab !== "events";
    this.find("video-list").hidden = tab !== "videos";
    document.documentElement.dataset.tab = tab;
    this.lists();
  }

  eventRow() {
    const { el } = vadpipe;
    const row = el("div.row.event", {}, el("img", { alt: "", loading: "lazy" }), el("span.blank"), el("div.words", {}, el("strong"), el("span"), el("span.soft")), el("span.mark"));
    row.parts = { img: row.children[0], blank: row.children[1], words: row.children[2].children, mark: row.children[3] };
    return row;
  }

  fillEvent(row, entry) {
    const { state } = this, said = state.caption(entry), media = state.mediaOf(entry), { img, blank, words, mark } = row.parts;
    img.hidden = !media?.picture;
    blank.hidden = !img.hidden;
    if (media?.picture) img.src = `media/${media.index}.jpg`;
    words[0].className = `level${said.level}`;
    words[0].textContent = said.words;
    words[1].textContent = `${said.clock}, ${said.lasts}`;
    words[2].textContent = entry.video.where;
    words[2].title = entry.video.name;
    row.title = state.reason(entry).words;
    const verdict = (!entry.check && state.verdicts.of(entry.video.id, entry.at)?.verdict) || "";
    mark.className = `mark ${verdict}`;
    mark.textContent = { accept: "✓", reject: "✕", unsure: "?" }[verdict] || "";
    mark.title = verdict;
  }

  videoRow() {
    const { el, svg } = vadpipe;
    const line = svg("polyline", { fill: "none" }), level = svg("line", { x1: 0, x2: 47 });
    const spark = svg("svg", { viewBox: "0 0 47 20", preserveAspectRatio: "none", class: "spark", "aria-hidden": "true" }, level, line);
    const row = el("div.row.video", {}, el("div.words", {}, el("strong"), el("span.soft")), spark);
    row.parts = { words: row.children[0].children, line, level };
    return row;
  }

  fillVideo(row, video) {
    const { words, line, level } = row.parts, { scale, sparks } = this.state.page;
    this.bytes = this.bytes || vadpipe.unpack(sparks, "u1");
    const own = this.bytes.subarray(video.index * 48, video.index * 48 + 48);
    words[0].textContent = video.where;
    words[0].title = video.name;
    words[1].textContent = `${vadpipe.duration(video.seconds)}, ${vadpipe.count(video.shown, "event")}`;
    line.setAttribute("points", Array.from(own, (value, i) => `${i},${(19 - (18 * value) / 255).toFixed(1)}`).join(" "));
    const { high } = this.state.levels(video);
    const at = Number.isFinite(high) ? 19 - (18 * (high - scale.low)) / (scale.high - scale.low || 1) : -9;
    level.setAttribute("y1", at);
    level.setAttribute("y2", at);
  }

  // -- links -------------------------------------------------------------------------------------

  name(video) {
    try {
      return encodeURIComponent(video.id);
    } catch {
      return ""; // a name that is not text: its number will do
    }
  }

  open(entry) {
    this.picked = entry;
    this.go(`${entry.check ? "check" : "event"}/${entry.video.index}/${entry.at}/${this.name(entry.video)}`);
  }

  // At once: a verdict that is typed right after "next" is about the next event.
  go(hash) {
    if (location.hash.replace(/^#/, "") !== hash) location.hash = hash;
    this.route();
  }

  // The video of a link: by its name, so that a link fits a page that was written again.
  videoOf(number, name) {
    try {
      const named = name && this.state.byId.get(decodeURIComponent(name));
      if (named) return named;
    } catch {
      // no name: the number counts
    }
    return this.state.videos[Number(number)] || null;
  }

  route() {
    this.routed = location.hash;
    const [what, number, ...rest] = location.hash.replace(/^#/, "").split("/");
    const named = what === "event" || what === "check";
    const video = what === "video" ? this.videoOf(number, rest[0]) : named ? this.videoOf(number, rest[1]) : null;
    let entry = null;
    if (video && what === "event") {
      const at = Number(rest[0]), picked = this.picked;
      entry = picked && !picked.check && picked.video === video && picked.at === at ? picked : this.state.entryAt(video, at);
    } else if (video && what === "check") entry = this.state.checkAt(video, Number(rest[0]));
    document.documentElement.dataset.open = String(Boolean(video));
    if (!video) {
      this.detail.video = this.detail.entry = null;
      this.detail.player.film.pause();
      this.home();
      if (what) this.problem("This link is about a video that is not on the page.");
    } else {
      if (this.find("main").firstChild !== this.detail.box) this.find("main").replaceChildren(this.detail.box);
      this.detail.show(video, entry);
      this.find("main").scrollTop = 0;
    }
    this.list.choose(this.tab === "events" ? this.state.indexOf(entry) : this.shown.indexOf(video));
  }

  home() {
    this.find("main").replaceChildren(vadpipe.overview(this.state, (entry) => this.open(entry)));
  }

  // -- keys --------------------------------------------------------------------------------------

  step(by) {
    const { entries } = this.state;
    if (!entries.length) return;
    const at = this.state.indexOf(this.detail.entry);
    this.open(entries[at < 0 ? 0 : Math.min(Math.max(at + by, 0), entries.length - 1)]);
  }

  key(event) {
    const typing = event.target.closest("input[type=text], input[type=search], textarea, select");
    if (event.key === "Escape") {
      if (typing) {
        event.preventDefault(); // a search field would look empty, and still filter
        typing.blur();
      } else if (!document.querySelector("dialog[open]")) this.go("");
      return;
    }
    if (typing || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const { detail } = this;
    const keys = {
      j: () => this.step(1), k: () => this.step(-1), " ": () => detail.player.toggle(), o: () => detail.player.turn(),
      a: () => detail.say("accept"), r: () => detail.say("reject"), u: () => detail.say("unsure"),
      n: () => detail.judge.querySelector("textarea")?.focus(), "/": () => this.find("filter").focus(),
      e: () => this.show("events"), v: () => this.show("videos"), "?": () => vadpipe.help(),
    };
    const act = keys[event.key];
    if (!act || (event.key === " " && event.target.closest("button, video, summary, input, label, a"))) return;
    if (!detail.video && "aru on".includes(event.key) && event.key !== " ") return;
    event.preventDefault();
    act();
  }
};

vadpipe.load("page").then(
  (page) => {
    vadpipe.app = new vadpipe.App(page);
  },
  (error) => {
    const box = document.getElementById("problem");
    box.textContent = error.message;
    box.hidden = false;
  },
);
