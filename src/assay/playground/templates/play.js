"use strict";
// What the visitor chooses, what is sent, and what comes back line by line.
(() => {
  const { $, el, ask, postJson, complain, show, number, norms } = Play;
  // ms: between two looks at loading models; after the last stroke or move; until a page without samples draws a digit;
  // until no more samples are waited for
  const LEAST_WAIT = 500, SETTLED = 250, SAMPLES = 900, PATIENCE = 60_000;
  const state = { setup: null, image: null, source: null, pending: null, turn: 0, run: null, panels: new Map(), eps: {}, opened: [], laid: "" };

  const models = () => state.setup?.models ?? [];
  const model = () => models().find((one) => one.name === $("model").value);
  const second = () => models().find((one) => one.name === $("second").value);
  const attack = () => state.setup.attacks.find((one) => one.name === $("method").value);
  const norm = () => document.querySelector("[name=norm]:checked")?.value;
  const mode = () => document.querySelector("[name=mode]:checked").value;
  const digits = () => model()?.kind === "digits" && model().shape[0] === 1;
  const options = (select, list, chosen) => {
    const kept = list.map(([value, text, off]) => el("option", { value, disabled: Boolean(off), selected: value === chosen }, text));
    select.replaceChildren(...kept);
  };

  // ---- Models
  const titled = (one) => (one.failed ? `${one.title} (failed)` : one.ready ? one.title : `${one.title} (loading …)`);
  const listModels = () => {
    const open = models().filter((one) => !one.failed);
    const [first, beside] = [$("model").value, $("second").value];
    const chosen = (open.find((one) => one.name === first) ?? open[0] ?? models()[0])?.name;
    options($("model"), models().map((one) => [one.name, titled(one), one.failed]), chosen);
    const others = models().filter((one) => one.name !== chosen && one.kind === model()?.kind && String(one.shape) === String(model().shape));
    options($("second"), [["", others.length ? "no second model" : "no other of its shape"], ...others.map((one) => [one.name, titled(one), one.failed])], beside);
    $("model").disabled = models().length === 0;
    $("second").disabled = others.length === 0;
    const failed = models().filter((one) => one.failed).map((one) => `${one.title}: ${one.failed}`);
    complain("model-error", failed.join(" "));
    const what = { gradient: "gradients known", scores: "scores alone", labels: "answers alone" };
    const one = model();
    const about = one?.ready ? [`${one.shape[2]} × ${one.shape[1]}`, Play.count(one.classes.length, "class", "classes"), what[one.access] ?? "", one.defended ? "defended" : ""] : [];
    $("about-model").textContent = about.filter(Boolean).join(", ");
    ready();
  };
  const ready = () => { $("go").disabled = !state.run && !(model()?.ready && (state.image || state.pending)); };
  // Models, samples and patches come as the server has them: what is new is listed, what was chosen stays.
  const look = async () => {
    let before = {}, changed = Date.now();
    for (;;) {
      let setup;
      try {
        setup = await (await ask("/api/setup")).json();
      } catch (error) { complain("model-error", error.message); return; }
      setup.patches.push(...state.opened);
      state.setup = setup;
      const now = { model: model()?.ready ? model().name : "", models: JSON.stringify(models().map((one) => [one.name, one.ready, one.failed])) };
      for (const name of ["attacks", "defences", "samples", "patches"]) now[name] = setup[name].map((one) => one.name ?? one.id).join();
      const news = (...names) => names.some((name) => now[name] !== before[name]);
      if (news("models")) listModels();
      now.model = model()?.ready ? model().name : "";
      if (news("defences")) options($("defence"), [["", "none"], ...setup.defences.map((one) => [one.name, one.title || one.name])], $("defence").value);
      if (now.model && setup.attacks.length) {
        // not again for a model that the visitor chose: its picture and its result stay
        if (state.laid !== now.model) changeModel();
        else {
          if (news("attacks")) listAttacks();
          if (news("patches")) listPatches($("which-patch").value);
          if (news("samples")) { listSamples(); if (!state.source) firstSample(); }
        }
      } else idle("The model is loading …");
      const rest = Object.keys(now).every((name) => now[name] === before[name]);
      before = now;
      $("notes").textContent = (setup.notes ?? []).join(" ");
      if (!rest) changed = Date.now();
      const loaded = models().every((one) => one.ready || one.failed);
      const shown = new Set(setup.samples.map((one) => one.model_kind));
      const complete = setup.attacks.length && models().every((one) => one.failed || one.kind === "other" || shown.has(one.kind));
      // samples may come well after the models, or never
      if (loaded && rest && (complete || Date.now() - changed > PATIENCE)) return;
      await new Promise((resolve) => { setTimeout(resolve, loaded ? 4 * LEAST_WAIT : LEAST_WAIT); });
    }
  };

  // ---- Image
  const changeModel = () => {
    listModels();
    const one = model();
    if (!one?.ready || !state.setup.attacks.length) { idle("The model is loading …"); return; }
    // an answer to the model before, or of it, is of no use now
    drop();
    state.turn += 1;
    $("answer").textContent = "…";
    $("note").textContent = "";
    show($("seen"), false);
    [state.image, state.pending, state.eps, state.laid] = [null, null, {}, one.name];
    idle("The model is asked …");
    const drawing = digits();
    for (const part of [$("pad"), $("drawing-tools"), $("undo"), $("clear"), $("pad-help"), document.querySelector(".tools")]) show(part, drawing);
    show($("seen-large"), false);
    show($("drop-hint"), !drawing);
    $("stage").classList.toggle("tiny", Math.max(one.shape[1], one.shape[2]) <= 64);
    document.querySelector(".seen").classList.toggle("tiny", Math.max(one.shape[1], one.shape[2]) <= 64);
    if (drawing) Play.pad.size(one.shape[2], one.shape[1]);
    options($("goal"), [["", "any other class"], ...one.classes.map((name, at) => [String(at), `become “${name}”`])], "");
    listSamples();
    listAttacks();
    listPatches();
    // a picture of the visitor's own is shown to the next model as well; a sample only where it is of the kind
    if (state.source?.own && state.source.kind === one.kind) send();
    else firstSample();
  };
  const firstSample = () => chooseSample(state.setup.samples.find((sample) => sample.model_kind === model().kind));
  const listSamples = () => {
    const fitting = state.setup.samples.filter((sample) => sample.model_kind === model().kind);
    const chosen = document.querySelector("[name=sample]:checked")?.value;
    $("samples-name").textContent = fitting.length ? "Samples" : "";
    $("samples").replaceChildren(...fitting.map((sample) => {
      const input = el("input", { type: "radio", name: "sample", value: sample.id, checked: sample.id === chosen });
      input.addEventListener("change", () => chooseSample(sample));
      return el("label", { title: sample.title }, input, el("img", { src: sample.png, alt: sample.title }));
    }));
  };
  const chooseSample = (sample) => {
    if (!sample) {
      state.source = null;
      idle(digits() ? "…" : "Give the model a picture, and attack it.");
      // samples may come a moment later than models, or never
      setTimeout(() => { if (digits() && model().ready && !state.source) { Play.pad.sketch(); drawn(); } }, SAMPLES);
      return;
    }
    const input = document.querySelector(`[name=sample][value="${CSS.escape(sample.id)}"]`);
    if (input) input.checked = true;
    state.source = { bytes: Play.bytesOf(sample.png), own: false, kind: model().kind };
    send();
  };
  const unchoose = () => { for (const input of document.querySelectorAll("[name=sample]")) input.checked = false; };
  const take = (file) => {
    if (!file || !model()) return;
    complain("image-error", file.size > state.setup.limits.upload ? `The file has ${number(file.size / 2 ** 20)} MiB; at most ${number(state.setup.limits.upload / 2 ** 20)} are taken.` : "");
    if (file.size > state.setup.limits.upload) return;
    unchoose();
    state.source = { bytes: file, own: true, kind: model().kind };
    send();
  };

  // The newest picture counts: an answer to an older one is dropped.
  const send = (redraw = true) => {
    const turn = (state.turn += 1), one = model();
    if (!one?.ready || !state.source) return;
    state.image = null;
    state.pending = (async () => {
      try {
        const { bytes } = state.source;
        const answer = await ask(`/api/image?${new URLSearchParams({ model: one.name })}`, { method: "POST", body: typeof bytes === "function" ? bytes() : bytes });
        const seen = await answer.json();
        if (turn === state.turn) await accept(seen, redraw);
      } catch (error) {
        if (turn === state.turn) {
          complain("image-error", error.message);
          // the picture before still stands on the page, and can be attacked
          if (state.seen?.model === one.name) [state.image, state.source] = [state.seen.image, state.seen.source];
          else $("answer").textContent = "…";
        }
      } finally {
        if (turn === state.turn) { state.pending = null; ready(); }
      }
    })();
    ready();
  };
  const accept = async (seen, redraw) => {
    complain("image-error", "");
    state.image = seen;
    state.seen = { image: seen, source: state.source, model: model().name };
    const [first] = seen.top;
    $("answer").replaceChildren(...(first ? [el("strong", {}, first.name), ` ${Play.percent(first.share)} %`] : ["…"]));
    $("note").textContent = state.source.drawn ? state.source.drawn() : seen.note || "";
    $("seen").src = seen.png;
    show($("seen"), true);
    if (digits()) {
      if (redraw) {
        const picture = new Image();
        picture.src = seen.png;
        await picture.decode();
        Play.pad.under(picture);
      }
    } else {
      $("seen-large").src = seen.png;
      $("seen-large").alt = "The picture as the model sees it";
      show($("seen-large"), true);
      show($("drop-hint"), false);
    }
    idle();
    if (mode() === "patch") askSoon();
  };

  let settle = 0;
  const drawn = () => {
    clearTimeout(settle);
    unchoose();
    state.source = { bytes: Play.pad.png, drawn: Play.pad.note, own: true, kind: model().kind };
    settle = setTimeout(() => { settle = 0; if (!Play.pad.busy()) send(false); }, SETTLED);
  };
  Play.pad.onchange(drawn);
  const flush = () => { if (settle) { clearTimeout(settle); settle = 0; send(false); } return state.pending; };
  $("file").addEventListener("change", (event) => { take(event.target.files[0]); event.target.value = ""; });
  document.addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
    if (file) { event.preventDefault(); take(file); }
  });
  for (const name of ["dragenter", "dragover"]) {
    document.addEventListener(name, (event) => { event.preventDefault(); $("stage").classList.add("over"); });
  }
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("stage").classList.remove("over"); });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    $("stage").classList.remove("over");
    take(event.dataTransfer.files[0]);
  });

  // ---- What to do
  const listAttacks = () => {
    const blind = model().access !== "gradient";
    const usable = (one) => !(blind && one.gradient) && (model().access !== "labels" || one.labels !== false);
    const kept = $("method").value;
    const all = state.setup.attacks;
    const preferred = [kept, "pgd", "square"].find((name) => all.some((one) => one.name === name && usable(one))) ?? all.find(usable)?.name;
    options($("method"), all.map((one) => [one.name, usable(one) ? one.name : `${one.name} (needs gradients)`, !usable(one)]), preferred);
    changeAttack();
  };
  const changeAttack = () => {
    const one = attack();
    if (!one) return;
    const untargeted = one.targets === false;
    if (untargeted) $("goal").value = "";
    $("goal").disabled = untargeted;
    $("about-method").textContent = `${one.title[0].toUpperCase()}${one.title.slice(1)}. ${one.source ?? ""}`;
    const fields = one.options.map((option) => optionField(one, option));
    $("option-fields").replaceChildren(...fields, optionField(one, { name: "seed", type: "int", default: 0, help: "The random numbers of the attack." }));
    const kept = norm();
    const chosen = one.norms.includes(kept) ? kept : one.norms[0];
    $("norms").replaceChildren(...one.norms.map((name) => {
      const input = el("input", { type: "radio", name: "norm", value: name, checked: name === chosen });
      input.addEventListener("change", changeNorm);
      return el("label", {}, input, el("span", {}, norms[name] ?? name));
    }));
    changeNorm();
  };
  const optionField = (one, option) => {
    const id = `option-${option.name}`, blank = option.default === null || option.default === undefined;
    let field;
    if (option.type === "bool") field = el("input", { type: "checkbox", id, checked: option.default === true });
    else if (option.type === "choice") {
      field = el("select", { id });
      options(field, [...(blank ? [["", "auto"]] : []), ...option.choices.map((choice) => [String(choice), String(choice)])], String(option.default ?? ""));
    } else {
      field = el("input", { type: "text", id, inputmode: "decimal", autocomplete: "off", value: blank ? "" : option.default, placeholder: blank ? "auto" : null });
    }
    Object.assign(field.dataset, { option: option.name, type: option.type, default: blank ? "" : String(option.default) });
    field.setAttribute("aria-describedby", `${id}-help`);
    return el("div", { class: `field option ${option.type}` }, el("label", { for: id }, option.name.replaceAll("_", " ")), field, el("p", { class: "small", id: `${id}-help` }, option.help));
  };
  // Only what differs from the default is sent, so that "the same in Python" stays short.
  const chosenOptions = () => {
    const chosen = {};
    let seed = 0;
    for (const field of $("option-fields").querySelectorAll("[data-option]")) {
      const { option, type } = field.dataset;
      const text = type === "bool" ? String(field.checked) : field.value.trim();
      if (text === "" || text === field.dataset.default) continue;
      const value = type === "bool" ? field.checked : type === "int" || type === "float" ? (text.includes("/") ? Play.value(text) : Number(text)) : text;
      if (value === null || (typeof value === "number" && !Number.isFinite(value))) throw new Error(`${option.replaceAll("_", " ")} is ${text}; a number is expected.`);
      if (option === "seed") seed = value; else chosen[option] = value;
    }
    return { options: chosen, seed };
  };

  // ---- Budget: a logarithmic slider, and the text that counts
  const budget = () => (model().budgets ?? state.setup.budgets)[norm()] ?? state.setup.budgets[norm()] ?? { least: "0.01", most: "10", default: "1" };
  const bounds = () => [Math.max(Play.value(budget().least) ?? 0, 1e-4), Play.value(budget().most) ?? 1];
  const toSlider = (value) => { const [least, most] = bounds(); return (400 * Math.log(value / least)) / Math.log(most / least); };
  const written = (value) => {
    if (norm() === "linf" && !digits()) return value < 1 / 255 ? `${Number((255 * value).toFixed(1))}/255` : `${Math.round(255 * value)}/255`;
    if (norm() === "l0") return String(Math.max(1, Math.round(value)));
    return String(Number(value.toPrecision(2)));
  };
  const changeNorm = () => {
    const own = model().budgets?.[norm()]?.default;
    const start = own ?? (digits() && norm() === "linf" ? "0.3" : budget().default);
    $("eps").value = state.eps[norm()] ?? start;
    const [least, most] = bounds();
    const grey = norm() === "linf";
    const round = grey ? [0.5, 1, 2, 4, 8, 16, 32, 64, 128, 255] : [0.01, 0.1, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10000];
    let last = -100;
    const marks = round.map((mark) => [mark, toSlider(grey ? mark / 255 : mark) / 4]).filter(([, at]) => at >= -0.1 && at <= 100.1)
      .filter(([, at]) => { const room = at - last >= 9; if (room) last = at; return room; });
    $("marks").replaceChildren(...marks.map(([mark, at]) => {
      const made = el("span", {}, String(mark));
      made.style.left = `calc(.5rem + (100% - 1rem) * ${(at / 100).toFixed(4)})`;
      return made;
    }));
    $("marks").dataset.unit = grey ? "grey levels" : norm() === "l0" ? "pixels" : "";
    show($("slider"), most > least);
    changeEps();
  };
  const changeEps = () => {
    state.eps[norm()] = $("eps").value;
    const value = Play.value($("eps").value);
    $("eps").setAttribute("aria-invalid", String(value === null));
    if (value === null) { $("about-eps").textContent = "A number, or a fraction such as 8/255, is expected."; return; }
    if (value > 0) $("slider").value = toSlider(value);
    const size = model().shape.reduce((product, side) => product * side, 1);
    const words = {
      linf: `Each value may change by ${number(255 * value)} of 255 grey levels.`,
      l2: `Spread evenly, ${number((255 * value) / Math.sqrt(size), 2)} grey levels a value.`,
      l1: `Spread evenly, ${number((255 * value) / size, 2)} grey levels a value.`,
      l0: `At most ${Play.count(value, "pixel")} may change, each freely.`,
    };
    $("about-eps").textContent = words[norm()] ?? "";
    $("slider").setAttribute("aria-valuetext", `${$("eps").value}. ${words[norm()] ?? ""}`);
  };
  $("slider").addEventListener("input", () => {
    const [least, most] = bounds();
    $("eps").value = written(least * (most / least) ** ($("slider").value / 400));
    changeEps();
  });
  // A key goes on to the next budget that is written differently, however fine the slider is.
  $("slider").addEventListener("keydown", (event) => {
    const way = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
    if (!way) return;
    event.preventDefault();
    const before = $("eps").value;
    const [least, most] = bounds();
    for (let at = Number($("slider").value) + way; at >= 0 && at <= 400; at += way) {
      const next = written(least * (most / least) ** (at / 400));
      if (next !== before && Math.sign(Play.value(next) - (Play.value(before) ?? 0)) === way) {
        $("eps").value = next;
        changeEps();
        return;
      }
    }
  });
  $("eps").addEventListener("input", changeEps);
  $("method").addEventListener("change", changeAttack);
  $("model").addEventListener("change", changeModel);
  $("second").addEventListener("change", () => { drop(); listModels(); changeMode(); idle(); });

  // ---- Patches
  const listPatches = (chosen) => {
    const fitting = state.setup.patches.filter((one) => !one.model_kind || one.model_kind === model().kind);
    options($("which-patch"), fitting.length ? fitting.map((one) => [one.id, one.title]) : [["", "none yet: open one"]], chosen);
    changeMode();
  };
  const changeMode = () => {
    const patching = mode() === "patch";
    show($("noise"), !patching);
    show($("placing"), patching);
    Play.patch.show(patching ? state.setup?.patches.find((one) => one.id === $("which-patch").value)?.png : null);
    if (!state.run) $("go").textContent = patching ? "Ask the model" : "Attack";
    ready();
  };
  for (const input of document.querySelectorAll("[name=mode]")) input.addEventListener("change", () => { changeMode(); idle(); if (mode() === "patch") askSoon(); });
  $("which-patch").addEventListener("change", () => { changeMode(); askSoon(); });
  $("patch-file").addEventListener("change", async (event) => {
    const [file] = event.target.files;
    event.target.value = "";
    if (!file) return;
    try {
      const made = await (await ask("/api/patch", { method: "POST", body: file })).json();
      state.opened.push({ ...made, title: file.name });
      state.setup.patches.push(state.opened.at(-1));
      listPatches(made.id);
      complain("run-error", "");
      askSoon();
    } catch (error) { complain("run-error", error.message); }
  });
  let soon = 0;
  const askSoon = () => {
    clearTimeout(soon);
    soon = setTimeout(() => {
      if (mode() !== "patch" || !$("which-patch").value) return;
      if (state.run) askSoon(); else start();
    }, SETTLED);
  };
  Play.patch.onchange(askSoon);

  // ---- Run
  const lay = () => {
    const shown = [model(), second()].filter(Boolean);
    state.panels = new Map(shown.map((one) => [one.name, Play.panel(one, shown.length === 1)]));
    $("panels").classList.toggle("beside", shown.length > 1);
    $("panels").replaceChildren(...[...state.panels.values()].map((panel) => panel.root));
  };
  const idle = (words) => {
    if (state.run) return;
    lay();
    const told = words ?? (mode() === "patch" ? "Move the patch: the model answers." : "Press Attack, and watch.");
    for (const [name, panel] of state.panels) panel.idle(state.image?.png, name === model().name ? state.image?.top : null, told);
  };
  const request = () => {
    const patch = mode() === "patch" ? { id: $("which-patch").value, ...Play.patch.place() } : null;
    if (patch && !patch.id) throw new Error("There is no patch yet: open a picture of one.");
    if (!patch && Play.value($("eps").value) === null) throw new Error(`The budget is “${$("eps").value}”; a number, or a fraction such as 8/255, is expected.`);
    const { options: chosen, seed } = chosenOptions();
    return {
      image: state.image.image, model: model().name, second: second()?.name ?? null, attack: $("method").value, norm: norm(),
      // what stands hidden beside a patch must not change its answer
      eps: $("eps").value.trim(), goal: patch || $("goal").value === "" ? "untargeted" : { class: Number($("goal").value) },
      defence: patch ? null : $("defence").value || null, options: chosen, seed, smallest: $("smallest").checked && !patch, patch,
    };
  };
  // A run that nobody waits for any more.
  const drop = () => {
    state.run?.control.abort();
    state.run = null;
    $("go").classList.remove("stop");
  };
  const start = async () => {
    const run = { id: null, control: new AbortController(), patch: mode() === "patch", told: [], left: new Set() };
    state.run = run;
    complain("run-error", "");
    try {
      await flush();
      if (!state.image) throw new Error("There is no picture yet: draw one, or choose a sample.");
      const asked = request();
      $("go").textContent = run.patch ? "Asking …" : "Stop";
      $("go").classList.toggle("stop", !run.patch);
      [run.seen, run.targeted] = [state.image.png, asked.goal !== "untargeted" && !run.patch];
      if (!run.patch) {
        lay();
        Play.say("The attack has begun.");
        const passes = Number($("option-steps")?.value ?? 0) || 0;
        for (const panel of state.panels.values()) panel.start(run, asked.attack, passes);
      }
      reveal(run);
      await follow(await postJson("/api/run", asked, { signal: run.control.signal }), run);
    } catch (error) {
      if (state.run !== run) return;
      if (error.name !== "AbortError") complain("run-error", error.message);
      for (const panel of state.panels.values()) panel.halt(error.name === "AbortError" ? "Stopped." : "No result.");
    } finally {
      if (state.run === run) {
        drop();
        changeMode();
        ready();
      }
    }
  };
  // On a narrow screen the result stands below the button.
  const reveal = (run) => {
    if (run.patch || $("result").getBoundingClientRect().top < 0.75 * innerHeight) return;
    $("result").scrollIntoView({ behavior: Play.calm() ? "auto" : "smooth" });
  };
  const follow = async (answer, run) => {
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let left = "", ended = false;
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const lines = (left + value).split("\n");
      left = lines.pop();
      for (const line of lines) if (line.trim()) ended = handle(JSON.parse(line), run) || ended;
    }
    if (left.trim()) ended = handle(JSON.parse(left), run) || ended;
    if (!ended) throw new Error("The server ended the attack before it was done.");
    for (const name of run.left) state.panels.get(name).halt("No result.");
    if (run.told.length) Play.say(run.told.join(" "));
  };
  const handle = (event, run) => {
    const panel = state.panels.get(event.model);
    if (event.event === "started") {
      run.id = event.run;
      // the old answer to a patch stays until the new one begins, so that moving it does not flicker
      if (run.patch) { lay(); for (const one of state.panels.values()) one.start(run, "The model", 0); }
      run.left = new Set(state.panels.keys());
    } else if (event.event === "clean") panel?.clean(event);
    else if (event.event === "point") panel?.point(event);
    else if (event.event === "done") {
      run.left.delete(event.model);
      if (panel) run.told.push(panel.done(event, run.id, run.patch));
      return true;
    } else if (event.event === "failed") {
      // one of two models may fail, and the other be done
      complain("run-error", event.error);
      return true;
    }
    if (event.event === "stopped") {
      for (const name of run.left) state.panels.get(name).halt(`Stopped after ${Play.count(state.panels.get(name).passes(), "pass", "passes")}.`);
      run.left.clear();
      Play.say("Stopped.");
      return true;
    }
    return false;
  };
  const stop = async () => {
    const { run } = state;
    try { if (run.id) await postJson("/api/stop", { run: run.id }); } catch { /* closing the stream ends it as well */ }
    setTimeout(() => { if (state.run === run) run.control.abort(); }, run.id ? 1500 : 0);
  };
  $("form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (state.run) { if (!state.run.patch) stop(); } else start();
  });

  look();
})();
