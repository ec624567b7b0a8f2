"use strict";
// One model's result: the verdict, three pictures on one scale, the margin pass by pass, the classes before and after.
(() => {
  const { el, number, percent, count, norms } = Play;
  const NAME = 160; // how wide the zero line's name is, in px
  const LONG = 70; // letters: longer reasons are folded away
  const WIDEST = 8; // rows of classes: five before, and whoever is new among the five after

  // The margin as a line. Below zero the model is wrong: that half is shaded, and the line changes colour there.
  let charts = 0;
  const chart = () => {
    const name = `clip-${(charts += 1)}`;
    const svg = el("svg", { role: "img", "aria-label": "The margin, pass by pass: nothing yet", height: 190 });
    const measure = el("span", {}, "lead over the best other class");
    let points = [], expected = 0, waiting = 0, corner = 0, meaning = "below: the model is wrong";
    const edge = { left: 34, right: 52, top: 10, bottom: 26 };
    const ticks = (low, high, most) => {
      const raw = (high - low) / most || 1, power = 10 ** Math.floor(Math.log10(raw));
      const step = [1, 2, 5, 10].map((times) => times * power).find((value) => value >= raw);
      return Array.from({ length: Math.floor(high / step) - Math.ceil(low / step) + 1 }, (_, at) => (Math.ceil(low / step) + at) * step);
    };
    // What zero means is written where the line is not: it stays in its corner until the line comes there.
    const named = (line, box) => {
      const along = line.flatMap(([x, y], at) => {
        const [a, b] = line[at - 1] ?? [x, y], pieces = Math.min(40, Math.max(1, Math.ceil(Math.hypot(x - a, y - b) / 6)));
        return Array.from({ length: pieces }, (_, piece) => [a + ((x - a) * (piece + 1)) / pieces, b + ((y - b) * (piece + 1)) / pieces]);
      });
      const ending = line.length ? [[line.at(-1)[0] + 20, line.at(-1)[1]], [line.at(-1)[0] + 40, line.at(-1)[1]]] : [];
      const corners = [
        { x: box.left + 6, y: box.bottom - 7, from: box.left }, { x: box.right - 6, y: box.zero - 7, from: box.right - NAME },
        { x: box.right - 6, y: box.bottom - 7, from: box.right - NAME },
        { x: box.right - 6, y: box.zero + 15, from: box.right - NAME }, { x: box.left + 6, y: box.zero + 15, from: box.left },
      ];
      const met = ({ y: low, from }) => [...along, ...ending].filter(([x, y]) => x > from - 4 && x < from + NAME + 4 && y > low - 18 && y < low + 8).length;
      if (met(corners[corner])) corner = corners.map(met).reduce((best, hits, at, all) => (hits < all[best] ? at : best), 0);
      const { x, y, from } = corners[corner];
      return el("text", { class: "named", x, y, "text-anchor": from === box.left ? "start" : "end" }, meaning);
    };
    const draw = () => {
      waiting = 0;
      const wide = svg.clientWidth || 480, tall = svg.clientHeight || 190;
      const seen = points.map((point) => point.margin);
      const high = Math.max(0, ...seen) || 1, low = Math.min(-0.35 * high, ...seen), room = 0.06 * (high - low);
      const last = Math.max(1, expected, points.at(-1)?.pass ?? 0);
      const x = (pass) => edge.left + ((wide - edge.left - edge.right) * pass) / last;
      const y = (margin) => edge.top + ((tall - edge.top - edge.bottom) * (high + room - margin)) / (high - low + 2 * room);
      const bottom = tall - edge.bottom, right = wide - edge.right, zero = y(0);
      const parts = [
        el("defs", {},
          el("clipPath", { id: `${name}-over` }, el("rect", { x: 0, y: 0, width: wide, height: zero })),
          el("clipPath", { id: `${name}-under` }, el("rect", { x: 0, y: zero, width: wide, height: tall - zero }))),
        el("rect", { class: "wrong", x: edge.left, y: zero, width: right - edge.left, height: bottom - zero }),
      ];
      for (const value of points.length ? ticks(low, high, 4) : [0]) {
        if (value !== 0) parts.push(el("line", { class: "grid", x1: edge.left, x2: right, y1: y(value), y2: y(value) }));
        parts.push(el("text", { class: "tick", x: edge.left - 8, y: y(value) + 4, "text-anchor": "end" }, number(value)));
      }
      const passes = ticks(0, last, wide > 420 ? 5 : 3).filter((value) => Number.isInteger(value) && last - value > 0.12 * last);
      for (const value of points.length ? [...passes, last] : []) {
        parts.push(el("text", { class: "tick", x: x(value), y: bottom + 17, "text-anchor": "middle" }, value.toLocaleString("en")));
      }
      parts.push(el("text", { class: "tick", x: right + 6 + 4 * String(last).length, y: bottom + 17 }, "passes"));
      parts.push(el("line", { class: "zero", x1: edge.left, x2: right, y1: zero, y2: zero }));
      parts.push(named(points.map((point) => [x(point.pass), y(point.margin)]), { left: edge.left, right, bottom, zero }));
      if (points.length) {
        const path = points.map((point, at) => `${at ? "L" : "M"}${x(point.pass).toFixed(1)},${y(point.margin).toFixed(1)}`).join("");
        const end = points.at(-1);
        for (const part of ["over", "under"]) {
          parts.push(el("path", { class: `line ${part}`, d: path, "clip-path": `url(#${name}-${part})` }));
        }
        parts.push(el("circle", { class: `end ${end.margin < 0 ? "under" : "over"}`, cx: x(end.pass), cy: y(end.margin), r: 3.5 }));
        parts.push(el("text", { class: "value", x: x(end.pass) + 8, y: y(end.margin) + 4 }, number(end.margin, 2)));
      }
      svg.replaceChildren(...parts);
    };
    const soon = () => { waiting ||= requestAnimationFrame(draw); };
    new ResizeObserver(soon).observe(svg);
    return {
      svg,
      mean: (below, lead) => { [meaning, measure.textContent] = [below, lead]; soon(); },
      measure,
      expect: (passes) => { expected = passes; soon(); },
      add: (pass, margin) => { if (Number.isFinite(margin)) { points.push({ pass, margin }); soon(); } },
      last: () => points.at(-1),
      tell: () => {
        if (!points.length) return;
        const [first, end] = [points[0], points.at(-1)];
        svg.setAttribute("aria-label", `The margin, pass by pass: from ${number(first.margin)} to ${number(end.margin)} after ${count(end.pass, "pass", "passes")}; ${meaning.replace("below:", "below zero")}`);
      },
    };
  };

  // Classes before and after in one list: a row's bar moves from the one share to the other.
  const classes = () => {
    const body = el("tbody");
    const table = el("table", { class: "classes" }, el("caption", { class: "quiet" }, "Likeliest classes before and after"),
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "class"), el("th", { scope: "col" }, "before"), el("th", { scope: "col" }, "after"))), body);
    const rows = new Map();
    let first = null;
    const row = (entry) => {
      const bars = [el("i", { class: "was" }), el("i", { class: "is" })];
      const cells = { was: el("td"), is: el("td") };
      const name = el("th", { scope: "row" }, el("span", { title: entry.name }, entry.name), el("span", { class: "bars", "aria-hidden": "true" }, ...bars));
      const made = { line: el("tr", {}, name, cells.was, cells.is), bars, cells };
      rows.set(entry.class, made);
      body.append(made.line);
      return made;
    };
    const width = (bar, share) => { bar.style.width = `${(100 * (share ?? 0)).toFixed(2)}%`; };
    return {
      table,
      before: (top) => {
        body.replaceChildren();
        rows.clear();
        first = top[0]?.class;
        for (const entry of top) {
          const made = row(entry);
          made.line.classList.toggle("first", entry.class === first);
          made.cells.was.textContent = percent(entry.share);
          for (const bar of made.bars) width(bar, entry.share);
        }
      },
      after: (top) => {
        const now = new Map(top.map((entry) => [entry.class, entry]));
        for (const entry of top) {
          if (rows.has(entry.class) || rows.size >= WIDEST) continue;
          row(entry).cells.was.textContent = "·";
        }
        body.getBoundingClientRect(); // new bars begin at nothing, and grow from there
        for (const [index, made] of rows) {
          const entry = now.get(index);
          made.cells.is.textContent = entry ? percent(entry.share) : "·";
          made.line.classList.toggle("won", entry !== undefined && entry === top[0] && index !== first);
          width(made.bars[1], entry?.share);
        }
      },
    };
  };

  const copyable = (title, text, level) => {
    const button = el("button", { type: "button", class: "plain", "aria-label": `Copy: ${title}` }, "Copy");
    button.addEventListener("click", async () => {
      try { await navigator.clipboard.writeText(text); } catch { return; }
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    return el("div", { class: "same" }, el("div", { class: "above" }, el(level, {}, title), button),
      el("pre", { tabindex: 0, role: "group", "aria-label": title }, el("code", {}, text)));
  };

  const download = (run, model, done) => {
    const note = el("span", { class: "small", role: "status" });
    const button = el("button", { type: "button", class: "plain" }, "Download PNG");
    const read = done.checked?.note ? `Checked: ${done.checked.note}` : "";
    note.textContent = read;
    button.addEventListener("click", async () => {
      try {
        const answer = await Play.ask(`/api/download?${new URLSearchParams({ run, model })}`);
        const url = URL.createObjectURL(await answer.blob());
        el("a", { href: url, download: `assay-${model.replace(/[^\w.-]+/g, "-").slice(0, 60)}.png` }).click();
        setTimeout(() => URL.revokeObjectURL(url), 10_000);
        const checked = answer.headers.get("X-Assay-Checked");
        note.textContent = checked ? `Saved, read back and asked again: ${checked}.` : read;
      } catch (error) { note.textContent = error.message; }
    });
    return el("p", { class: "download" }, button, note);
  };

  const facts = (done, patch) => {
    const list = [];
    const aside = (more) => (more.length > LONG ? el("details", {}, el("summary", {}, "how"), el("small", {}, more)) : el("small", {}, more));
    const fact = (name, text, more) => list.push(el("div", {}, el("dt", {}, name), el("dd", {}, text, ...(more ? [aside(more)] : []))));
    fact("Passes", `${done.forwards.toLocaleString("en")} forward, ${done.backwards.toLocaleString("en")} backward`, `in ${number(done.seconds, 2)} s`);
    if (!patch) {
      fact("Size of the change", `${norms[done.norm] ?? done.norm} ${number(done.size)}`, `${number(done.grey_levels)} of 255 grey levels`);
    }
    if (done.smallest) {
      fact("Smallest budget", done.smallest.eps ?? "none found", done.smallest.how);
    }
    if (done.certified) {
      const { radius, norm, how } = done.certified;
      fact("Certified radius", radius === null ? "none" : `${norms[norm] ?? norm} ${number(radius)}`, how);
    }
    return el("dl", { class: "facts" }, ...list);
  };

  const heading = (done, before) => {
    const [was, is] = [before?.[0], done.top[0]];
    if (!was || !is) return done.success ? "Broken" : "Not broken";
    return was.class === is.class ? `Still “${is.name}”` : `“${was.name}” became “${is.name}”`;
  };

  // A panel stands from the start, so that nothing jumps when the answer comes.
  Play.panel = (model, alone) => {
    const line = chart(), table = classes();
    const badge = el("span", { class: "badge", hidden: true });
    const title = el("p", { class: "headline" });
    const text = el("p", { class: "rests" });
    const pictures = {};
    const shown = ["original", "change", "result"].map((name) => {
      const frame = el("span", { class: "frame" });
      const caption = el("figcaption", {}, name);
      pictures[name] = { frame, caption };
      return el("figure", {}, frame, caption);
    });
    const rest = el("div", { class: "rest" });
    const tiny = Math.max(model.shape[1], model.shape[2]) <= 64;
    const root = el("article", { class: `panel${tiny ? " tiny" : ""}`, "aria-label": model.title },
      alone ? null : el("h3", {}, model.title),
      el("div", { class: "verdict" }, badge, title, text),
      el("div", { class: "pictures" }, ...shown),
      el("div", { class: "two" },
        el("figure", { class: "margin" }, el("figcaption", {}, "Margin ", line.measure), line.svg),
        el("div", { class: "likeliest" }, el("p", { class: "subject" }, "Classes ", el("span", {}, "share in %")), table.table)),
      rest);
    const put = (name, uri, caption = name) => {
      pictures[name].frame.replaceChildren(...(uri ? [el("img", { src: uri, alt: `${caption}${alone ? "" : `, ${model.title}`}` })] : []));
      pictures[name].caption.textContent = caption;
    };
    const state = (kind, word) => {
      badge.className = `badge ${kind}`;
      badge.textContent = word;
      Play.show(badge, Boolean(word));
    };
    let before = null;
    return {
      root,
      idle: (seen, top, words) => {
        put("original", seen);
        if (top) table.before(top);
        before = top;
        title.textContent = words;
        title.classList.add("calm");
      },
      start: ({ patch, seen, targeted }, called, passes) => {
        root.classList.toggle("asked", patch);
        put("original", seen);
        line.expect(passes);
        // towards a class, the margin is what the best other class has before the goal's
        if (targeted) line.mean("below: the goal is reached", "lead over the goal’s class");
        title.textContent = `${called} is at work …`;
        title.classList.add("calm");
        text.textContent = "";
        state("", "");
      },
      clean: (event) => {
        before = event.top;
        table.before(event.top);
        line.add(0, event.margin);
        if (event.right === false) text.textContent = "The model was wrong before any attack.";
      },
      point: (event) => line.add(event.pass, event.margin),
      done: (event, run, patch) => {
        put("original", event.original);
        put("change", event.change, `change, × ${number(event.factor)}`);
        put("result", event.result);
        line.expect(0);
        if (Number.isFinite(event.margin) && line.last()?.margin !== event.margin) line.add(Math.max(event.forwards, line.last()?.pass ?? 0), event.margin);
        line.tell();
        table.after(event.top);
        title.classList.remove("calm");
        title.textContent = heading(event, before);
        state(event.success ? "refuted" : event.verdict.state === "not judged" ? "" : "held", event.verdict.state);
        text.textContent = event.verdict.text;
        rest.replaceChildren(facts(event, patch), download(run, event.model, event), ...[["The same in the shell", event.shell], ["The same in Python", event.python]].map(([name, words]) => copyable(name, words, alone ? "h3" : "h4")));
        return `${model.title}: ${event.verdict.state}. ${heading(event, before)} after ${count(event.forwards, "pass", "passes")}. ${event.verdict.text}`;
      },
      halt: (words) => {
        line.tell();
        title.textContent = words;
        title.classList.add("calm");
      },
      passes: () => line.last()?.pass ?? 0,
    };
  };
})();
