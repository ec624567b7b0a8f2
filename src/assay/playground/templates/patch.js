"use strict";
// The patch on the image: dragged, turned and scaled by mouse, by one or two fingers, by keys, and by four sliders.
(() => {
  const { $ } = Play;
  const stage = $("stage"), patch = $("patch"), picture = patch.querySelector("img");
  const fields = { x: $("patch-x"), y: $("patch-y"), size: $("patch-w"), turn: $("patch-a") };
  const place = { x: 0.7, y: 0.7, size: 0.35, turn: 0 };
  const limits = { x: [0, 1], y: [0, 1], size: [0.05, 1], turn: [-180, 180] };
  let changed = () => {};

  const draw = () => {
    const scale = Math.min(stage.clientWidth, stage.clientHeight);
    const ratio = (picture.naturalWidth || 1) / (picture.naturalHeight || 1);
    const long = place.size * scale;
    patch.style.width = `${ratio >= 1 ? long : long * ratio}px`;
    patch.style.height = `${ratio >= 1 ? long / ratio : long}px`;
    patch.style.left = `${100 * place.x}%`;
    patch.style.top = `${100 * place.y}%`;
    patch.style.transform = `translate(-50%, -50%) rotate(${place.turn}deg)`;
    for (const [name, field] of Object.entries(fields)) {
      const value = Math.round(name === "turn" ? place.turn : 100 * place[name]);
      field.value = value;
      field.nextElementSibling.textContent = name === "turn" ? `${value}°` : `${value} %`;
    }
  };
  const set = (values, settled = true) => {
    for (const [name, value] of Object.entries(values)) {
      const turned = name === "turn" ? ((((value + 180) % 360) + 360) % 360) - 180 : value;
      place[name] = Math.min(limits[name][1], Math.max(limits[name][0], turned));
    }
    draw();
    if (settled) changed();
  };

  const fingers = new Map();
  let grip = null; // what the pointers took hold of, and where the patch was then
  const where = (event) => {
    const box = stage.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  const between = ([a, b]) => ({
    far: Math.hypot(b[0] - a[0], b[1] - a[1]), turn: (Math.atan2(b[1] - a[1], b[0] - a[0]) * 180) / Math.PI,
    middle: [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2],
  });
  const hold = (what) => {
    const points = [...fingers.values()];
    grip = { what: points.length > 1 ? "both" : what, start: { ...place }, points: points.map((point) => [...point]) };
  };
  patch.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || fingers.size > 1) return;
    event.preventDefault();
    patch.focus({ focusVisible: false });
    patch.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, where(event));
    hold({ "patch-turn": "turn", "patch-size": "size" }[event.target.id] || "move");
  });
  patch.addEventListener("pointermove", (event) => {
    if (!fingers.has(event.pointerId) || !grip) return;
    fingers.set(event.pointerId, where(event));
    const now = [...fingers.values()], { start, points } = grip;
    if (grip.what === "both") {
      const [old, next] = [between(points), between(now)];
      set({
        x: start.x + next.middle[0] - old.middle[0], y: start.y + next.middle[1] - old.middle[1],
        size: (start.size * next.far) / Math.max(old.far, 0.01), turn: start.turn + next.turn - old.turn,
      }, false);
      return;
    }
    const centre = [start.x, start.y];
    const [old, next] = [between([centre, points[0]]), between([centre, now[0]])];
    if (grip.what === "move") set({ x: start.x + now[0][0] - points[0][0], y: start.y + now[0][1] - points[0][1] }, false);
    else if (grip.what === "size") set({ size: (start.size * next.far) / Math.max(old.far, 0.01) }, false);
    else set({ turn: start.turn + next.turn - old.turn }, false);
  });
  for (const name of ["pointerup", "pointercancel"]) {
    patch.addEventListener(name, (event) => {
      if (!fingers.delete(event.pointerId)) return;
      if (fingers.size) hold("move"); else { grip = null; changed(); }
    });
  }
  patch.addEventListener("wheel", (event) => {
    event.preventDefault();
    if (event.shiftKey) set({ turn: place.turn + Math.sign(event.deltaY || event.deltaX) * 5 });
    else set({ size: place.size * (event.deltaY < 0 ? 1.05 : 1 / 1.05) });
  }, { passive: false });
  patch.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? 0.1 : 0.02;
    const does = {
      ArrowLeft: { x: place.x - step }, ArrowRight: { x: place.x + step }, ArrowUp: { y: place.y - step },
      ArrowDown: { y: place.y + step }, "+": { size: place.size + 0.02 }, "=": { size: place.size + 0.02 },
      "-": { size: place.size - 0.02 }, "[": { turn: place.turn - 5 }, "]": { turn: place.turn + 5 },
    }[event.key];
    if (!does || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    set(does);
  });
  for (const [name, field] of Object.entries(fields)) {
    field.addEventListener("input", () => set({ [name]: name === "turn" ? Number(field.value) : Number(field.value) / 100 }));
  }
  picture.addEventListener("load", draw);
  new ResizeObserver(draw).observe(stage);

  Play.patch = {
    onchange: (then) => { changed = then; },
    show: (uri) => {
      if (uri && picture.src !== uri) picture.src = uri;
      Play.show(patch, Boolean(uri));
      draw();
    },
    place: () => Object.fromEntries(Object.entries(place).map(([name, value]) => [name, Number(value.toFixed(4))])),
  };
})();
