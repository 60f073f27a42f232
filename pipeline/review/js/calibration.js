// How far the rate that the threshold states can be trusted: what other videos gave, against what
// was measured on the one that was left out. Both axes are logarithmic; 0 lies at the bottom.
"use strict";

vadpipe.calibration = (found) => {
  if (!found) return null;
  const { el, svg, number, plain } = vadpipe, points = found.points.filter(([stated]) => stated > 0);
  const said = found.lines.map((text) => el("li", { text: plain(text) }));
  const box = el("section.calibration.expert", { "aria-label": "Calibration" },
    el("h3", { text: `How far the threshold can be trusted (${found.rule})` }), el("ul.soft", {}, ...said));
  if (!points.length) return box;
  const SIDE = 260, EDGE = 44, floor = Math.min(...points.map(([stated]) => stated)) / 3;
  const top = 1.5 * Math.max(...points.flatMap(([stated, measured, , most]) => [stated, measured, most ?? 0]));
  const at = (value) => (SIDE - EDGE) * Math.log(Math.max(value, floor) / floor) / Math.log(top / floor);
  const x = (value) => EDGE + at(value), y = (value) => SIDE - EDGE - at(value);
  const marks = points.flatMap(([stated, measured, least, most]) => {
    const dot = svg("circle", { cx: x(stated), cy: y(measured), r: 4 }), title = svg("title");
    title.textContent = `${number(stated)} stated, ${number(measured)} measured`;
    dot.append(title);
    return [most === null ? null : svg("line", { class: "bar", x1: x(stated), x2: x(stated), y1: y(least ?? 0), y2: y(most) }), dot];
  });
  const text = (place, words) => {
    const made = svg("text", place);
    made.textContent = words;
    return made;
  };
  const ends = [Math.min(...points.map(([stated]) => stated)), Math.max(...points.map(([stated]) => stated))];
  const plot = svg("svg", { viewBox: `0 0 ${SIDE} ${SIDE}`, width: SIDE, height: SIDE, role: "img", "aria-label": `Stated against measured, ${found.unit}` },
    svg("line", { class: "even", x1: x(floor), y1: y(floor), x2: x(top), y2: y(top) }),
    svg("path", { class: "axis", d: `M${EDGE} 0V${SIDE - EDGE}H${SIDE}` }),
    ...ends.flatMap((value) => [
      text({ x: x(value), y: SIDE - EDGE + 16, "text-anchor": "middle" }, number(value)),
      text({ x: EDGE - 6, y: y(value) + 4, "text-anchor": "end" }, number(value)),
    ]),
    text({ x: SIDE / 2, y: SIDE - 6, "text-anchor": "middle" }, `stated, ${found.unit}`),
    text({ x: -SIDE / 2 + EDGE / 2, y: 12, transform: "rotate(-90)", "text-anchor": "middle" }, "measured"),
    ...marks.filter(Boolean));
  box.append(plot, el("p.soft", { text: "Dots: held-out footage with each video left out once, bars: 95 %. On the dashed line the rate is as stated." }));
  return box;
};
