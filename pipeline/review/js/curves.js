// Score curves and their events: the rules of vadpipe, number for number.
"use strict";

// An event or moment. All are made here: objects of one shape are several times as fast.
// `check` is the reason of a check of the camera; such an event is none of the detector. `explain`
// says why in numbers, `why` in words.
vadpipe.entry = (id, video, start, stop, at, peak, mean, explain, moment, check = "", why = "") => ({
  id, video, start, stop, at, peak, mean, explain, moment, check, why,
});

vadpipe.curves = (() => {
  // Runs of equal frames as they are stored -> their starts (with the end), and their scores.
  function decodeRuns(stored) {
    const lengths = vadpipe.unpack(stored.lengths.data, stored.lengths.kind);
    const values = vadpipe.unpack(stored.values.data, stored.values.kind);
    const starts = new Float64Array(lengths.length + 1);
    let top = -Infinity, bottom = Infinity;
    for (let i = 0; i < lengths.length; i++) {
      starts[i + 1] = starts[i] + lengths[i];
      if (values[i] > top) top = values[i];
      if (values[i] < bottom) bottom = values[i];
    }
    return { first: stored.first, starts, values, top, bottom };
  }

  // A curve: runs, other columns of the same folder, and the same video in the eyes of other systems.
  function decode(stored) {
    const parts = stored.parts.map((part) => ({
      name: part.name,
      frames: vadpipe.unpack(part.frames, "f8"),
      values: vadpipe.unpack(part.values, "f4"),
    }));
    const systems = (stored.systems || []).map((each) => ({ ...decodeRuns(each), events: each.events }));
    return { ...decodeRuns(stored), parts, systems };
  }

  // The run that holds a frame (counted from the first frame of the curve).
  function runAt(curve, frame) {
    let low = 0, high = curve.values.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (curve.starts[middle] <= frame) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  const total = (curve) => curve.starts[curve.values.length];

  // The score of a frame of the file; the nearest one outside of the curve.
  function scoreAt(curve, frame) {
    const inside = Math.min(Math.max(frame - curve.first, 0), total(curve) - 1);
    return curve.values[runAt(curve, inside)];
  }

  // The lowest and the highest score of each column of pixels, and whether it falls: no peak is lost.
  function columns(curve, frameAt, width, each) {
    const end = total(curve), at = (frame) => runAt(curve, Math.min(Math.max(frame - curve.first, 0), end - 1));
    let i = at(frameAt(0));
    for (let x = 0; x < width; x++) {
      const last = at(frameAt(x + 1));
      let low = curve.values[i], high = low;
      for (let k = i; k <= last; k++) {
        const value = curve.values[k];
        if (value < low) low = value;
        if (value > high) high = value;
      }
      each(x, low, high, curve.values[i] > curve.values[last]);
      i = last;
    }
  }

  // Borders in pairs: join neighbours with at most `gap` frames between them, in place.
  function merge(borders, gap) {
    let n = 0;
    for (let i = 0; i < borders.length; i += 2) {
      if (n && borders[i] - borders[n - 1] <= gap) borders[n - 1] = borders[i + 1];
      else {
        borders[n] = borders[i];
        borders[n + 1] = borders[i + 1];
        n += 2;
      }
    }
    borders.length = n;
  }

  function runsAbove(curve, high, low) {
    const { starts, values } = curve, borders = [];
    let begin = -1, alarm = false;
    for (let i = 0; i < values.length; i++) {
      const value = values[i];
      if (value > low) {
        if (begin < 0) {
          begin = starts[i];
          alarm = false;
        }
        if (value > high) alarm = true;
      } else if (begin >= 0) {
        if (alarm) borders.push(begin, starts[i]);
        begin = -1;
      }
    }
    if (begin >= 0 && alarm) borders.push(begin, total(curve));
    return borders;
  }

  function describe(curve, a, b, video) {
    const { starts, values, first } = curve, from = runAt(curve, a);
    let top = from, sum = 0;
    for (let i = from; i < values.length && starts[i] < b; i++) {
      const begin = starts[i] < a ? a : starts[i], end = starts[i + 1] > b ? b : starts[i + 1];
      sum += values[i] * (end - begin);
      if (values[i] > values[top]) top = i;
    }
    const begin = Math.max(starts[top], a), end = Math.min(starts[top + 1], b);
    const at = first + begin + Math.floor((end - begin - 1) / 2);
    return vadpipe.entry(null, video, first + a, first + b, at, values[top], sum / (b - a), "", false);
  }

  // The borders of the events of one video (docs/evaluation.md), in pairs: frames above `low` with one
  // above `high`, joined over `gap` frames, at least `shortest` long, padded by `pad`. "Above" is strict.
  function findBorders(curve, high, low, [gap, shortest, pad]) {
    if (!(curve.top > high)) return [];
    const end = total(curve), borders = runsAbove(curve, high, low);
    merge(borders, gap);
    let n = 0;
    for (let i = 0; i < borders.length; i += 2) {
      if (borders[i + 1] - borders[i] < shortest) continue;
      const a = Math.max(borders[i] - pad, 0), b = Math.min(borders[i + 1] + pad, end);
      borders[n] = a;
      borders[n + 1] = b;
      n += 2;
    }
    borders.length = n;
    merge(borders, 0);
    return borders;
  }

  // The events themselves, added to `found`.
  function findEvents(curve, high, low, lengths, video = null, found = []) {
    const borders = findBorders(curve, high, low, lengths);
    for (let i = 0; i < borders.length; i += 2) found.push(describe(curve, borders[i], borders[i + 1], video));
    return found;
  }

  return { decode, columns, findBorders, findEvents, scoreAt, runAt, total };
})();
