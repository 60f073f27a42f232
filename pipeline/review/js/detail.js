// One video, or one event of it: player, curve, verdict, similar events, numbers.
"use strict";

vadpipe.Detail = class {
  // on.high(value), on.pick(entry), on.back()
  constructor(state, on) {
    const { el } = vadpipe;
    this.state = state;
    this.on = on;
    this.player = new vadpipe.Player({ frame: (frame) => this.chart.setFrame(frame), shown: () => this.here() });
    this.systems = new vadpipe.Systems(state.page.systems || []);
    this.chart = new vadpipe.Chart({
      seek: (frame) => this.seek(frame),
      high: on.high,
      drawn: (video, view) => this.systems.draw(video, view),
      pick: (event, frame) => {
        on.pick(event);
        this.seek(frame);
      },
    });
    this.title = el("h2");
    this.under = el("p.soft");
    this.why = el("p.why");
    this.exact = el("p.why.expert");
    this.judge = el("section.judge", { "aria-label": "Verdict" });
    this.legend = el("div.legend");
    this.more = el("section.more");
    this.numbers = el("section.numbers.expert", { "aria-label": "Numbers" });
    this.events = el("section.events-of");
    this.checks = el("section.events-of");
    this.box = el("article.detail", {},
      el("header", {},
        el("button.back", { type: "button", text: "Back", onclick: on.back }),
        el("div", {}, this.title, this.why, this.exact, this.under)),
      el("div.seen", {}, this.player.box, this.judge),
      this.legend, this.chart.box, this.systems.box, this.events, this.checks, this.more, this.numbers);
  }

  seek(frame) {
    this.chart.setFrame(frame);
    if (!this.player.seek(frame)) {
      const near = this.video.media.find((media) => media.clip && frame >= media.clip[0] && frame < media.clip[1]);
      if (near) {
        this.player.show(this.video, this.entry, near);
        this.player.choose("clip");
        this.player.seek(frame);
      } else this.player.note.textContent = "There is no picture of this moment: the browser cannot play the video itself here.";
    }
  }

  show(video, entry) {
    const { state } = this;
    Object.assign(this, { video, entry });
    const best = entry ? state.mediaOf(entry) : video.media[0] || null;
    if (entry?.check) this.chart.parts.add(state.page.checks_column);
    this.player.show(video, entry, best);
    this.head();
    this.verdict();
    this.chart.show(video, state, entry);
    this.legends();
    this.list();
    this.alike();
    this.table();
    if (!video.curve) {
      vadpipe.load(`scores-${video.chunk}`).then((stored) => {
        stored.curves.forEach((curve, i) => state.setCurve(state.videos[stored.first + i], curve));
        this.chart.draw();
        this.legends();
      }, (error) => {
        this.player.note.textContent = error.message;
      });
    }
  }

  // Another tab has judged: show it, but leave what is being typed.
  reread() {
    if (!this.video || this.judge.contains(document.activeElement)) return;
    this.verdict();
    this.chart.draw();
  }

  // Something else has changed: the threshold, or a verdict.
  refresh() {
    if (!this.video) return;
    this.legends();
    if (this.entry && !this.entry.check) {
      this.entry = this.state.entryAt(this.video, this.entry.at) || this.entry;
      if (!this.entry.moment && this.state.moved && !this.state.eventAt(this.video, this.entry.at)) this.entry = { ...this.entry, moment: true };
    }
    this.head();
    this.chart.show(this.video, this.state, this.entry);
    this.list();
    this.table();
    this.marks();
  }

  head() {
    const { video, entry, state } = this;
    const fresh = video.trained === false ? " · new camera, the model was not trained on it" : "";
    this.why.textContent = this.exact.textContent = "";
    if (!entry) {
      this.title.textContent = video.place;
      this.under.textContent = `${video.place === video.name ? "" : `${video.name} · `}${vadpipe.duration(video.seconds)} · ${vadpipe.count(video.shown, "event")}${fresh}`;
      return;
    }
    const said = state.caption(entry);
    this.title.replaceChildren(
      vadpipe.el(`span.chip.level${said.level}`, { text: said.words }),
      vadpipe.el("span", { text: `${said.clock}, ${said.lasts}, ${said.place}` }));
    const kind = entry.check ? "Scene check, of the camera itself: no event of the detector" : !entry.moment ? "Event" : entry.peak > state.levels(video).high ? "Above the threshold, but too short for an event" : "Below the threshold";
    this.under.textContent = `${kind}${video.place === video.name ? "" : ` in ${video.name}`}${entry.check ? "" : fresh}`;
    const { words, numbers } = state.reason(entry);
    // What other checks say of the camera has no numbers.
    this.why.textContent = entry.check ? numbers : words;
    if (!entry.check) this.exact.textContent = numbers;
  }

  verdict() {
    const { entry, state } = this, { el } = vadpipe;
    this.judge.hidden = !entry || Boolean(entry.check); // no verdict: nothing is learnt from checks
    if (this.judge.hidden) return;
    const said = state.verdicts.of(this.video.id, entry.at), { fps } = this.video;
    this.buttons = ["accept", "reject", "unsure"].map((name) => el(`button.verdict.${name}`, {
      type: "button", "data-verdict": name, title: vadpipe.MEANING[name], onclick: () => this.say(name),
    }, el("span", { text: { accept: "Accept", reject: "Reject", unsure: "Unsure" }[name] }), el("kbd", { text: name[0] })));
    const note = el("textarea", {
      rows: "2", placeholder: "What happened?", maxlength: "2000",
      onchange: (event) => state.verdicts.put(this.entry, { note: event.target.value }),
    });
    note.value = said?.note || "";
    const border = (name, frame, past) => {
      const field = el("input", { type: "text", inputmode: "decimal", spellcheck: "false", size: "11", "aria-label": name });
      // A time code is too coarse for a frame: as long as nobody types, the frame is known.
      const tell = (exact) => {
        field.value = vadpipe.timecode(exact / fps);
        Object.assign(field.dataset, { frame: exact, text: field.value });
      };
      tell(frame);
      field.addEventListener("change", () => this.correct());
      const set = el("button", { type: "button", text: "here", title: "Take the frame that is shown", onclick: () => {
        tell(this.player.frame() + past);
        this.correct();
      } });
      return { field, set, row: el("label.border", {}, el("span", { text: name }), field, set) };
    };
    this.from = border("Begins", said?.corrected_start ?? entry.start, 0);
    this.to = border("Ends", said?.corrected_stop ?? entry.stop, 1); // the frame that is shown is the last
    this.said = el("p.soft", { role: "status" });
    this.judge.replaceChildren(
      el("div.buttons", {}, ...this.buttons),
      el("label.noted", {}, el("span", { text: "Note" }), note),
      this.from.row, this.to.row, this.said);
    this.marks();
    this.here();
  }

  // "here" needs a frame that is shown.
  here() {
    for (const border of [this.from, this.to]) if (border) border.set.disabled = this.player.frame() === null;
  }

  marks() {
    if (!this.entry || this.entry.check || !this.buttons) return;
    const said = this.state.verdicts.of(this.video.id, this.entry.at);
    for (const button of this.buttons) button.setAttribute("aria-pressed", String(said?.verdict === button.dataset.verdict));
  }

  say(verdict) {
    if (!this.entry || this.entry.check) return;
    const said = this.state.verdicts.of(this.video.id, this.entry.at)?.verdict;
    this.state.verdicts.put(this.entry, { verdict: said === verdict ? null : verdict });
  }

  // Borders are kept where they differ from those of the event.
  correct() {
    const { fps, start, stop } = this.video, { entry } = this;
    const [from, to] = [this.from, this.to].map(({ field }) => field.value === field.dataset.text ? Number(field.dataset.frame) : Math.round(vadpipe.seconds(field.value) * fps));
    if (!(from < to && from >= start && to <= stop)) {
      this.said.textContent = "Borders are times like 00:01:02.5, the first before the second, inside of the video.";
      return;
    }
    this.said.textContent = "";
    const unchanged = from === entry.start && to === entry.stop;
    this.state.verdicts.put(entry, { corrected_start: unchanged ? null : from, corrected_stop: unchanged ? null : to });
    this.chart.draw();
  }

  legends() {
    const { el } = vadpipe, parts = this.video.curve ? this.video.curve.parts : [];
    const item = (kind, text) => el("span.item", {}, el(`i.${kind}`), el("span", { text }));
    const { state, video } = this, { cameras } = state, { camera } = video;
    const other = camera && (state.own.has(camera) || (video.levels && !state.isMoved(video)));
    const whose = other ? ` of camera ${camera}` : "", moved = state.camera && camera ? `camera ${camera} alone` : `all ${cameras} cameras`;
    const moves = cameras > 1 ? `: it moves ${moved}` : "";
    const items = [item("score", "score"), item("event", "event"), item("high", `threshold${whose}, drag it${moves}`)];
    if (this.video.truth) items.push(item("truth", "labelled anomaly"));
    this.legend.replaceChildren(...items, ...parts.map((part, i) => {
      const box = el("input", { type: "checkbox", onchange: (event) => {
        this.chart.parts[event.target.checked ? "add" : "delete"](part.name);
        this.chart.draw();
      } });
      box.checked = this.chart.parts.has(part.name);
      return el(part.name === this.state.page.checks_column ? "label.item" : "label.item.expert", {}, box, el(`i.part${i % 4}`), el("span", { text: vadpipe.plain(part.name) }));
    }));
  }

  // The events of the video, as links along the time.
  list() {
    const MOST = 60, { video, entry, state } = this, live = video.live || [];
    const chips = live.slice(0, MOST).map((event) => {
      const said = state.caption(event), verdict = state.verdicts.of(video.id, event.at)?.verdict || "";
      return vadpipe.el("button.chip-event", {
        type: "button", "aria-current": !entry?.check && entry?.at === event.at ? "true" : null, class: `chip-event level${said.level} ${verdict}`,
        text: `${said.clock} · ${said.lasts}`, onclick: () => this.on.pick(event),
      });
    });
    if (live.length > MOST) chips.push(vadpipe.el("span.soft", { text: `and ${live.length - MOST} more` }));
    this.events.hidden = !chips.length;
    this.events.replaceChildren(vadpipe.el("h3", { text: "Events of this video" }), vadpipe.el("div.chips", {}, ...chips));
    const checks = video.checks.slice(0, MOST).map((check) => {
      const said = state.caption(check), open = entry?.check && entry.at === check.at;
      return vadpipe.el("button.chip-event.level3", {
        type: "button", "aria-current": open ? "true" : null, text: `${said.words} · ${said.clock} · ${said.lasts}`, onclick: () => this.on.pick(check),
      });
    });
    this.checks.hidden = !checks.length;
    this.checks.replaceChildren(vadpipe.el("h3", { text: "Scene checks of this video" }), vadpipe.el("div.chips", {}, ...checks));
  }

  alike() {
    const { el } = vadpipe, { entry, state } = this, { similar } = state.page;
    this.more.hidden = !entry || Boolean(entry.check);
    if (this.more.hidden) return;
    const at = similar.video.findIndex((video, i) => video === this.video.index && similar.at[i] >= entry.start && similar.at[i] < entry.stop);
    const found = at < 0 ? [] : similar.near[at];
    const cards = found.map(([other, likeness]) => {
      const video = state.videos[similar.video[other]], found = state.entryAt(video, similar.at[other]);
      if (!found) return null;
      const said = state.caption(found), media = state.mediaOf(found);
      return el("button.card", { type: "button", onclick: () => this.on.pick(found) },
        media?.picture ? el("img", { src: `media/${media.index}.jpg`, alt: "", loading: "lazy" }) : el("span.blank"),
        el("span", { text: `${said.clock}, ${said.place}` }),
        el("span.soft.expert", { text: `likeness ${vadpipe.number(likeness)}` }));
    });
    const none = at >= 0 ? "Nothing else that is compared resembles it." : similar.reason || "This moment is beyond the number of those that are compared.";
    this.more.replaceChildren(
      el("h3", { text: "More like this" }),
      cards.length && similar.by ? el("p.soft", { text: `Compared by ${similar.by}.` }) : "",
      cards.length ? el("div.cards", {}, ...cards.filter(Boolean)) : el("p.soft", { text: `None. ${vadpipe.plain(none)}` }));
  }

  table() {
    const { el } = vadpipe, { video, entry, state } = this, { number } = vadpipe, { high, low } = state.levels(video);
    const rows = [
      ["Video", video.name], ["File", vadpipe.plain(video.path) || "imported features, no footage"],
      ["Frames", `${video.frames}, scored ${video.start} to ${video.stop - 1}`], ["Frames a second", number(video.fps)],
      ["Highest score", number(video.peak)], ["Threshold", `${number(high)}, events go on above ${number(low ?? high)}`],
    ];
    if (video.auc !== null) rows.push(["AUC", `${(100 * video.auc).toFixed(2)} %`]);
    if (video.flags.length) rows.push(["Flags", video.flags.map(vadpipe.plain).join(", ")]);
    if (entry) {
      rows.unshift(
        ["Event", entry.id ? vadpipe.plain(entry.id) : "found at this threshold"],
        ["Frames of the event", `${entry.start} to ${entry.stop - 1}, peak at ${entry.at}`],
        [entry.check ? "Peak of the check, 1 is the limit" : "Peak score", number(entry.peak)], ["Mean score", number(entry.mean)]);
      if (video.truth) rows.splice(4, 0, ["Labels", video.truth.some(([a, b]) => a < entry.stop && b > entry.start) ? "labelled anomaly" : "no labelled anomaly"]);
    }
    this.numbers.replaceChildren(el("h3", { text: "Numbers" }), el("dl", {},
      ...rows.flatMap(([name, value]) => [el("dt", { text: name }), el("dd", { text: value })])));
  }
};
