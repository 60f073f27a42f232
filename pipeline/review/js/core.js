// The one global name, data files, and text for people. Scripts are plain ones: a page that was
// opened from a disk may load neither modules nor files.
"use strict";

var vadpipe = (() => {
  const waiting = new Map();
  const loaded = new Map();

  // A data file calls this. What stands in it is a string, so nothing of it can run.
  function receive(name, text) {
    const took = waiting.get(name);
    if (took) took(text);
  }

  // The values of data/NAME.js; the same promise for everyone who asks.
  function load(name) {
    if (loaded.has(name)) return loaded.get(name);
    const promise = new Promise((resolve, reject) => {
      const fail = () => reject(new Error(`data/${name}.js is missing or damaged: copy the whole folder, or write it again`));
      const script = document.createElement("script");
      waiting.set(name, (text) => {
        waiting.delete(name);
        try {
          resolve(JSON.parse(text));
        } catch {
          fail();
        }
      });
      script.addEventListener("error", fail);
      script.addEventListener("load", () => {
        if (waiting.has(name)) fail();
        script.remove();
      });
      script.src = `data/${name}.js`;
      document.head.append(script);
    });
    loaded.set(name, promise);
    return promise;
  }

  const KINDS = { u1: Uint8Array, u4: Uint32Array, f4: Float32Array, f8: Float64Array };

  // Base64 of little-endian numbers.
  function unpack(data, kind) {
    const bytes = Uint8Array.fromBase64
      ? Uint8Array.fromBase64(data)
      : Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
    const size = KINDS[kind].BYTES_PER_ELEMENT;
    return new KINDS[kind](bytes.buffer, bytes.byteOffset, bytes.byteLength / size);
  }

  // An element; text is always text, never markup. Properties that begin with "on" are listeners.
  function el(tag, properties = {}, ...children) {
    const [name, ...classes] = tag.split(".");
    const made = document.createElement(name || "div");
    if (classes.length) made.className = classes.join(" ");
    for (const [key, value] of Object.entries(properties)) {
      if (value === null || value === undefined || value === false) continue;
      if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
      else if (key === "text") made.textContent = value;
      else made.setAttribute(key, value === true ? "" : value);
    }
    made.append(...children.filter((child) => child !== null && child !== undefined));
    return made;
  }

  const SVG = "http://www.w3.org/2000/svg";
  function svg(tag, properties = {}, ...children) {
    const made = document.createElementNS(SVG, tag);
    for (const [key, value] of Object.entries(properties)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  // Control characters, and what turns the direction of writing around, written out.
  const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]/gu;
  function plain(text) {
    return String(text).replace(HIDDEN, (c) => `\\u${c.codePointAt(0).toString(16).padStart(4, "0")}`);
  }

  // hh:mm:ss.t, cut and not rounded, as players show it.
  function timecode(seconds, tenths = true) {
    const all = Math.floor(seconds * 10 + 1e-6);
    const two = (n) => String(n).padStart(2, "0");
    const whole = Math.floor(all / 10);
    const text = `${two(Math.floor(whole / 3600))}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
    return tenths ? `${text}.${all % 10}` : text;
  }

  // Seconds of a time code or of a plain number; NaN of anything else.
  function seconds(text) {
    const parts = String(text).trim().split(":");
    if (parts.length > 3 || parts.some((part) => !/^\d+(\.\d+)?$/.test(part))) return NaN;
    return parts.reduce((sum, part) => sum * 60 + Number(part), 0);
  }

  function duration(s) {
    if (s < 10) return `${Math.max(s, 0.1).toFixed(1).replace(/\.0$/, "")} s`;
    if (s < 60) return `${Math.round(s)} s`;
    if (s < 3600) return `${(s / 60).toFixed(1)} min`;
    return `${(s / 3600).toFixed(1)} h`;
  }

  const number = (value) => (Number.isFinite(value) ? String(Number(value.toPrecision(4))) : "none");
  const count = (n, one, many) => `${n.toLocaleString("en")} ${n === 1 ? one : many || `${one}s`}`;

  return { receive, load, unpack, el, svg, plain, timecode, seconds, duration, number, count };
})();
