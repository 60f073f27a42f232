// What stands where no video is chosen: what was looked at, what to know, what to do first.
"use strict";

vadpipe.overview = (state, open) => {
  const { el, count, duration } = vadpipe, { page } = state;
  const tile = (name, value) => el("div", {}, el("dt", { text: name }), el("dd", { text: value }));
  const tiles = [
    tile("Videos", page.videos.length.toLocaleString("en")),
    tile("Footage", duration(page.seconds)),
    tile("Events", state.count.toLocaleString("en")),
    tile("Judged", state.verdicts.kept.size.toLocaleString("en")),
  ];
  if (page.checks) tiles.push(tile("Scene checks", state.checks.length.toLocaleString("en")));
  if (page.failures.total) tiles.push(tile("Videos failed", page.failures.total.toLocaleString("en")));
  for (const [name, value] of page.metrics) tiles.push(el("div.expert", {}, el("dt", { text: name }), el("dd", { text: value })));
  const notes = page.notes.map((text) => el("li", { text: vadpipe.plain(text) }));
  if (!state.count && page.videos.length) {
    notes.unshift(el("li", { text: `No event at this threshold. The most unusual moments are listed all the same; move the slider to the left, or: ${page.lower}.` }));
  }
  if (!page.videos.length) notes.unshift(el("li", { text: "No video was scored." }));
  const card = (entry) => {
    const said = state.caption(entry), media = state.mediaOf(entry);
    return el("button.card", { type: "button", onclick: () => open(entry) },
      media?.picture ? el("img", { src: `media/${media.index}.jpg`, alt: "" }) : el("span.blank"),
      el("span", {}, el(`span.chip.level${said.level}`, { text: said.words })),
      el("span", { text: `${said.clock}, ${said.lasts}, ${said.place}` }),
      el("span.soft", { text: state.reason(entry).words }));
  };
  const first = state.entries.filter((entry) => !entry.check).slice(0, 6).map(card);
  const checks = state.checks.slice(0, 6).map(card);
  const failed = page.failures.rows.map(({ video_id, error, message }) => el("li", { text: vadpipe.plain(`${video_id}: ${error}: ${message}`) }));
  return el("article.overview", {},
    el("dl.tiles", {}, ...tiles),
    notes.length ? el("details.notes", { open: notes.length < 3 || !state.count }, el("summary", { text: count(notes.length, "note") }), el("ul", {}, ...notes)) : null,
    first.length ? el("h3", { text: "Look at these first" }) : null,
    el("div.cards.large", {}, ...first),
    checks.length ? el("h3", { text: "Scene checks: look at these cameras" }) : null,
    checks.length ? el("div.cards.large", {}, ...checks) : null,
    vadpipe.calibration(page.calibration),
    failed.length ? el("details", {}, el("summary", { text: count(page.failures.total, "failure") }), el("ul", {}, ...failed)) : null,
    el("p.soft", { text: `Detector ${vadpipe.plain(page.detector)}${page.column === "score" ? "" : `, column ${vadpipe.plain(page.column)}`}${page.smooth ? `, smoothed by ${vadpipe.plain(page.smooth)}` : ""}${page.created ? `, scored ${vadpipe.plain(page.created)}` : ""}. Keys: ? shows them.` }));
};

vadpipe.help = () => {
  const { el } = vadpipe;
  const keys = [
    ["j k", "next and previous event"], ["space", "play or pause"], ["a r u", "accept, reject, unsure"],
    ["n", "write a note"], ["o", "next overlay: picture, boxes, map"], ["v e", "list of videos, of events"],
    ["↑ ↓ Enter", "through a list, when it has the focus; open"],
    ["/", "filter"], ["+ - ← →", "zoom and move the curve, when it has the focus"], ["Esc", "back"],
  ];
  const close = el("button.close", { type: "button", text: "Close", onclick: () => box.close() });
  const box = el("dialog.help", { onclose: () => box.remove() },
    el("h2", { text: "Verdicts" }),
    el("ul", {}, ...Object.values(vadpipe.MEANING).map((text) => el("li", { text }))),
    el("h2", { text: "Keys" }),
    el("dl", {}, ...keys.flatMap(([key, what]) => [el("dt", {}, ...key.split(" ").map((each) => el("kbd", { text: each }))), el("dd", { text: what })])),
    close);
  document.body.append(box);
  box.showModal();
};
