"use strict";
(() => {
  const views = new Map();

  // Charts. `ast` makes Vega interpret its expressions instead of compiling them, which the page's policy forbids.
  const options = { ast: true, renderer: "svg", actions: false, defaultStyle: false, tooltip: { disableDefaultStyle: true } };
  const draw = (box) => {
    const spec = JSON.parse(document.getElementById(`${box.id}-spec`).textContent);
    const still = [...box.childNodes];
    const live = document.createElement("div");
    live.className = "live";
    box.append(live);
    vegaEmbed(live, spec, options).then(
      (result) => { still.forEach((node) => node.remove()); views.set(box.id, result.view); box.dataset.drawn = "yes"; },
      () => { live.remove(); box.dataset.drawn = "no"; },
    );
  };
  // A chart takes the width of its container: one in closed details has none until they open.
  for (const box of document.querySelectorAll(".chart")) {
    const closed = box.closest("details:not([open])");
    if (closed) closed.addEventListener("toggle", () => draw(box), { once: true });
    else draw(box);
  }
  const reveal = () => {
    const target = document.getElementById(location.hash.slice(1));
    if (target?.matches("details")) { target.open = true; target.scrollIntoView(); }
  };
  for (const badge of document.querySelectorAll("a.badge")) badge.addEventListener("click", () => setTimeout(reveal));
  reveal();
  const set = (name, signal, value) => views.get(name)?.signal(signal, value).runAsync();
  for (const select of document.querySelectorAll("select[data-for]")) {
    const part = document.getElementById(select.dataset.for);
    select.addEventListener("change", () => {
      for (const box of part.querySelectorAll(".chart")) set(box.id, "choice", Number(select.value));
      for (const row of part.querySelectorAll("[data-choice]")) row.hidden = row.dataset.choice !== select.value;
    });
  }
  for (const legend of document.querySelectorAll(".legend")) {
    const buttons = [...legend.querySelectorAll("button")];
    const pressed = () => buttons.find((button) => button.getAttribute("aria-pressed") === "true");
    const show = (button) => set(legend.dataset.for, "focus", button ? button.dataset.line : "");
    for (const button of buttons) {
      button.addEventListener("click", () => {
        const on = pressed() !== button;
        for (const other of buttons) other.setAttribute("aria-pressed", String(on && other === button));
        show(pressed());
      });
      button.addEventListener("pointerenter", () => show(button));
      button.addEventListener("pointerleave", () => show(pressed()));
    }
  }

  // Pictures: one dialog, walked with the arrow keys.
  const viewer = document.getElementById("viewer");
  const cards = [...document.querySelectorAll(".card")];
  let at = 0;
  const display = (place) => {
    at = (place + cards.length) % cards.length;
    const shown = cards[at].cloneNode(true);
    const open = shown.querySelector(".open");
    open.replaceWith(...open.childNodes);
    const body = document.createElement("div");
    body.className = shown.className;
    body.append(...shown.childNodes);
    viewer.querySelector(".viewer-body").replaceChildren(body);
    viewer.querySelector(".viewer-place").textContent = `${at + 1} of ${cards.length}`;
  };
  cards.forEach((card, place) => {
    card.querySelector(".open").addEventListener("click", () => { display(place); viewer.showModal(); });
  });
  const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
  viewer.addEventListener("keydown", (event) => {
    if (event.key in steps) { event.preventDefault(); display(at + steps[event.key]); }
  });
  viewer.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button?.dataset.step) display(at + Number(button.dataset.step));
    else if (event.target === viewer || (button && "close" in button.dataset)) viewer.close();
  });
  viewer.addEventListener("close", () => cards[at]?.querySelector(".open").focus());

  // Copying the command, where the browser lets a page do so.
  for (const button of document.querySelectorAll("[data-copy]")) {
    if (!navigator.clipboard) continue;
    button.hidden = false;
    button.addEventListener("click", async () => {
      try { await navigator.clipboard.writeText(button.parentElement.querySelector("code").textContent); } catch { return; }
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  }
})();
