"use strict";
// What all parts of the page share: elements, requests, and how numbers are written.
const Play = {};
(() => {
  const token = JSON.parse(document.getElementById("setup").textContent).token;
  const reduced = matchMedia("(prefers-reduced-motion: reduce)");

  Play.$ = (id) => document.getElementById(id);
  Play.calm = () => reduced.matches;

  // Names come from users' models and files: they only ever become text.
  Play.el = (tag, attributes = {}, ...children) => {
    const made = tag === "svg" || Play.el.drawing.has(tag)
      ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value === true) made.setAttribute(name, "");
      else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
    }
    made.append(...children.filter((child) => child !== null));
    return made;
  };
  Play.el.drawing = new Set(["path", "line", "rect", "circle", "text", "clipPath", "defs", "g"]);

  Play.show = (element, on) => { element.hidden = !on; };
  Play.say = (text) => { Play.$("live").textContent = text; };
  Play.complain = (id, text) => {
    const place = Play.$(id);
    place.textContent = text || "";
    Play.show(place, Boolean(text));
  };

  // Every request carries the token; an answer that is no success becomes an error with the server's own sentence.
  Play.ask = async (path, settings = {}) => {
    let answer;
    try {
      answer = await fetch(path, { ...settings, headers: { "X-Assay-Token": token, ...settings.headers }, cache: "no-store" });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Error("The server does not answer. Is “assay play” still running?");
    }
    if (answer.ok) return answer;
    let said = null;
    try { said = (await answer.json()).error; } catch { /* not one of our own answers */ }
    throw new Error(said || `The server answered with ${answer.status}.`);
  };
  Play.postJson = (path, value, settings = {}) => Play.ask(path, {
    method: "POST", body: JSON.stringify(value), headers: { "Content-Type": "application/json" }, ...settings,
  });

  Play.bytesOf = (uri) => Uint8Array.from(atob(uri.split(",")[1]), (letter) => letter.charCodeAt(0));
  Play.number = (value, figures = 3) => {
    if (value === null || value === undefined || !Number.isFinite(value)) return "—";
    const text = Math.abs(value) >= 1000 ? String(Math.round(value)) : String(Number(value.toPrecision(figures)));
    return text.replace("-", "−");
  };
  Play.percent = (share) => {
    if (share === null || share === undefined) return "—";
    const value = 100 * share;
    if (value > 0 && value < 0.1) return "<0.1";
    return value > 99.9 && value < 100 ? ">99.9" : value.toFixed(1);
  };
  Play.count = (number, one, many = `${one}s`) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
  // "8/255", "0.3": what the server reads; null for anything else
  Play.value = (text) => {
    const found = /^\s*(\d+\.?\d*|\.\d+)(?:\s*\/\s*(\d+\.?\d*))?\s*$/.exec(text);
    if (!found) return null;
    const value = Number(found[1]) / (found[2] ? Number(found[2]) : 1);
    return Number.isFinite(value) ? value : null;
  };
  Play.norms = { linf: "L∞", l2: "L2", l1: "L1", l0: "L0", ycbcr: "YCbCr", patch: "patch" };
})();
