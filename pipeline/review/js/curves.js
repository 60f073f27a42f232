// Score curves and their events: the rules of vadpipe, number for number.
"use strict";

vadpipe.curves = (() => {
  // A curve as it is stored -> starts of the runs of equal frames (with the end), and their scores.
  function decode(stored) {
    const lengths = vadpipe.unpack(stored.lengths, "u4");
    const values = vadpipe.unpack(stored.values.data, stored.values.kind);
    const starts = new Float64Array(lengths.length + 1);
    let top = -Infinity;
    for (let i = 0; i < lengths.length; i++) {
      starts[i + 1] = starts[i] + lengths[i];
      if (values[i] > top) top = values[i];
    }
    const parts = stored.parts.map((part) => ({
      name: part.name,
      frames: vadpipe.unpack(part.frames, "f8"),
      values: vadpipe.unpack(part.values, "f4"),
    }));
    return { first: stored.first, starts, values, top, parts };
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

  // Join neighbours with at most `gap` frames between them.
  function merge(runs, gap) {
    const joined = [];
    for (const run of runs) {
      const last = joined[joined.length - 1];
      if (last && run[0] - last[1] <= gap) last[1] = run[1];
      else joined.push(run);
    }
    return joined;
  }

  function runsAbove(curve, high, low) {
    const { starts, values } = curve, runs = [];
    let begin = -1, alarm = false;
    for (let i = 0; i < values.length; i++) {
      if (values[i] > low) {
        if (begin < 0) {
          begin = starts[i];
          alarm = false;
        }
        if (values[i] > high) alarm = true;
      } else if (begin >= 0) {
        if (alarm) runs.push([begin, starts[i]]);
        begin = -1;
      }
    }
    if (begin >= 0 && alarm) runs.push([begin, total(curve)]);
    return runs;
  }

  function describe(curve, a, b) {
    const { starts, values, first } = curve;
    let top = -1, sum = 0;
    const from = runAt(curve, a);
    for (let i = from; i < values.length && starts[i] < b; i++) {
      sum += values[i] * (Math.min(starts[i + 1], b) - Math.max(starts[i], a));
      if (top < 0 || values[i] > values[top]) top = i;
    }
    const begin = Math.max(starts[top], a), end = Math.min(starts[top + 1], b);
    return {
      start: first + a,
      stop: first + b,
      at: first + begin + Math.floor((end - begin - 1) / 2),
      peak: values[top],
      mean: sum / (b - a),
    };
  }

  // The events of one video (docs/evaluation.md): frames above `low` with one above `high`, joined
  // over `gap` frames, at least `shortest` long, padded by `pad`. "Above" is strict.
  function findEvents(curve, high, low, [gap, shortest, pad]) {
    if (!(curve.top > high)) return [];
    const end = total(curve);
    const long = merge(runsAbove(curve, high, low), gap).filter(([a, b]) => b - a >= shortest);
    const padded = long.map(([a, b]) => [Math.max(a - pad, 0), Math.min(b + pad, end)]);
    return merge(padded, 0).map(([a, b]) => describe(curve, a, b));
  }

  return { decode, findEvents, scoreAt, runAt, total };
})();
