// What is seen of a moment: the video itself, its preview, or the picture of its peak with overlays.
"use strict";

// Why a page has pictures and clips of a video, and not the video itself.
vadpipe.UNLINKED = {
  images: "This footage is a folder of pictures, which a page cannot play: look at it there.",
  none: "There is no footage: the features were imported.",
  gone: "The video itself was not found when this page was written.",
  apart: "The video itself does not lie in one folder with this page, so that a link to it would break when the page is moved.",
};

vadpipe.Player = class {
  // on.frame(frame): the frame that is shown; on.shown(): whether there is one may have changed.
  constructor(on) {
    const { el } = vadpipe;
    this.on = on;
    this.film = el("video", { "aria-label": "Preview or video", muted: true, playsinline: true, loop: true, preload: "metadata", controls: true });
    this.film.muted = true;
    this.picture = el("img", { alt: "" });
    this.boxes = vadpipe.svg("svg", { class: "boxes", "aria-hidden": "true" });
    this.still = el("button.still", { type: "button", title: "Enlarge", "aria-label": "Enlarge the picture", onclick: () => this.enlarge() }, this.picture, this.boxes);
    this.missing = el("p.missing");
    this.screen = el("div.screen", {}, this.film, this.still, this.missing);
    this.choices = el("div.choices", { role: "group", "aria-label": "What is shown" });
    this.note = el("p.soft.note");
    this.box = el("div.player", {}, this.screen, this.choices, this.note);
    this.failed = new Set();
    this.film.addEventListener("timeupdate", () => this.tell());
    this.film.addEventListener("seeked", () => this.tell());
    this.film.addEventListener("error", () => this.fail());
    for (const name of ["loadedmetadata", "emptied"]) this.film.addEventListener(name, () => on.shown());
  }

  show(video, entry, media) {
    const changed = this.media !== media || this.video !== video || this.entry?.at !== entry?.at;
    Object.assign(this, { video, entry, media });
    if (!changed) return;
    this.overlay = "none";
    this.pending = null;
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (media?.clip && !calm) this.choose("clip");
    else if (media?.picture) this.choose("picture");
    else if (this.canPlay()) this.choose("video");
    else this.choose("none");
  }

  canPlay() {
    return Boolean(this.video?.link) && !this.failed.has(this.video);
  }

  file(suffix) {
    return `media/${this.media.index}${suffix}`;
  }

  choose(what, overlay = "none") {
    this.what = what;
    this.overlay = overlay;
    const { media } = this;
    this.film.hidden = what !== "clip" && what !== "video";
    this.still.hidden = what !== "picture";
    this.missing.hidden = what !== "none";
    if (this.film.hidden) this.film.pause();
    else {
      const source = what === "clip" ? this.file(".webm") : this.video.link;
      if (this.film.getAttribute("src") !== source) this.film.src = source;
      this.film.loop = what === "clip";
      if (what === "clip") this.film.play().catch(() => {});
      else if (this.entry) this.seek(this.entry.start);
    }
    if (what === "picture") this.paint();
    if (what === "none") this.missing.textContent = this.why();
    this.offer();
    this.on.shown();
  }

  why() {
    if (this.media?.reason) return `No picture: ${vadpipe.plain(this.media.reason)}`;
    if (this.entry) return "No picture: this moment is beyond the number of those that get one (vadpipe report --pictures).";
    return "Choose an event to see its pictures.";
  }

  paint() {
    const { media } = this, map = this.overlay.startsWith("map") ? Number(this.overlay.slice(3)) : -1;
    this.picture.src = map < 0 ? this.file(".jpg") : this.file(`-${map}.jpg`);
    this.picture.alt = `Frame ${media.frame} of ${this.video.name}${map < 0 ? "" : `, map ${vadpipe.plain(media.maps[map].name)}`}`;
    this.boxes.replaceChildren();
    const [width, height] = media.size;
    this.boxes.setAttribute("viewBox", `0 0 ${width} ${height}`);
    if (this.overlay !== "boxes") return;
    [...media.boxes].reverse().forEach(([x0, y0, x1, y1, score, label], i) => {
      const first = i === media.boxes.length - 1;
      const frame = vadpipe.svg("rect", { x: x0, y: y0, width: Math.max(x1 - x0, 1), height: Math.max(y1 - y0, 1), class: first ? "first" : "" });
      const title = vadpipe.svg("title");
      title.textContent = `${label ? `${vadpipe.plain(label)}, ` : ""}score ${vadpipe.number(score)}`;
      frame.append(title);
      this.boxes.append(frame);
    });
  }

  // Buttons for what there is.
  offer() {
    const { media } = this, offers = [];
    if (media?.clip) offers.push(["Preview", "clip", "none"]);
    if (media?.picture) {
      offers.push(["Picture", "picture", "none"]);
      if (media.boxes.length) offers.push(["Boxes", "picture", "boxes"]);
      media.maps.forEach((map, i) => offers.push([media.maps.length > 1 ? `Map ${vadpipe.plain(map.name)}` : "Heat-map", "picture", `map${i}`]));
    }
    if (this.canPlay()) offers.push(["Video", "video", "none"]);
    this.choices.replaceChildren(...offers.map(([name, what, overlay]) => vadpipe.el("button", {
      type: "button", text: name, "aria-pressed": String(what === this.what && overlay === this.overlay),
      onclick: () => this.choose(what, overlay),
    })));
    const said = [], exact = [];
    // Without a button there is no overlay that could say why.
    if (media?.boxes_note && (this.overlay === "boxes" || !media.boxes.length)) said.push(vadpipe.plain(media.boxes_note));
    if (media?.maps_note) said.push(vadpipe.plain(media.maps_note));
    if (this.overlay.startsWith("map")) {
      const map = media.maps[Number(this.overlay.slice(3))];
      exact.push(`Colours from ${vadpipe.number(map.low)} to ${vadpipe.number(map.high)}.`);
    }
    if (this.failed.has(this.video)) said.push("This browser cannot play the video itself; its preview shows what happened.");
    if (!this.video.link && this.entry && this.what !== "none") said.push(vadpipe.UNLINKED[this.video.unlinked]);
    this.note.replaceChildren(said.join(" "), vadpipe.el("span.expert", { text: exact.length ? ` ${exact.join(" ")}` : "" }));
  }

  // The next overlay, with a key.
  turn() {
    const buttons = [...this.choices.children];
    if (!buttons.length) return;
    const at = buttons.findIndex((button) => button.getAttribute("aria-pressed") === "true");
    buttons[(at + 1) % buttons.length].click();
  }

  fail() {
    if (this.what !== "video" || !this.film.getAttribute("src")) return;
    this.failed.add(this.video);
    this.film.removeAttribute("src");
    if (this.media?.clip) this.choose("clip");
    else this.choose(this.media?.picture ? "picture" : "none");
  }

  // Show a frame: in the video, or in a preview that holds it. Whether that could be done.
  seek(frame) {
    const { media, video } = this;
    if (this.what === "clip" && media?.clip && frame >= media.clip[0] && frame < media.clip[1]) {
      this.film.pause();
      return this.jump((frame - media.clip[0]) / video.fps);
    }
    if (!this.canPlay()) return false;
    if (this.what !== "video") this.choose("video");
    return this.jump(frame / video.fps);
  }

  jump(seconds) {
    const { film } = this, source = film.getAttribute("src");
    if (film.readyState >= 1) film.currentTime = seconds;
    else {
      this.pending = seconds;
      film.addEventListener("loadedmetadata", () => {
        if (this.pending !== null && film.getAttribute("src") === source) film.currentTime = this.pending;
        this.pending = null;
      }, { once: true });
    }
    return true;
  }

  // null where none is shown.
  frame() {
    if (this.what === "picture") return this.media.frame;
    if (this.film.hidden || !this.video || this.film.readyState < 1) return null;
    const from = this.what === "clip" ? this.media.clip[0] : 0;
    return Math.floor(from + this.film.currentTime * this.video.fps + 1e-3);
  }

  tell() {
    const frame = this.frame();
    if (!this.film.hidden && frame !== null) this.on.frame(frame);
  }

  toggle() {
    if (this.film.hidden) {
      if (this.media?.clip) this.choose("clip");
      else if (this.canPlay()) this.choose("video");
    } else if (this.film.paused) this.film.play().catch(() => {});
    else this.film.pause();
  }

  enlarge() {
    const close = vadpipe.el("button.close", { type: "button", text: "Close", onclick: () => big.close() });
    const copy = this.still.cloneNode(true);
    const frame = vadpipe.el("div.big", {}, ...copy.childNodes);
    const big = vadpipe.el("dialog", { onclose: () => big.remove(), onclick: () => big.close() }, frame, close);
    document.body.append(big);
    big.showModal();
  }
};
