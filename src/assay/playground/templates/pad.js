"use strict";
// The drawing pad: strokes in, a small picture out, made as the digits of MNIST were made.
(() => {
  const { $ } = Play;
  const pad = $("pad");
  const GRAIN = 10; // points of the pad for one of the network's pixels
  const PEN = 2.2, RUBBER = 3.4; // widths in the network's pixels
  const INSIDE = 20 / 28; // MNIST (LeCun et al. 1998): the digit fills 20 of 28 pixels, its centre of mass in the middle
  // A three, for who has no samples: shares of the pad.
  const SKETCH = [
    [0.32, 0.27], [0.36, 0.21], [0.43, 0.17], [0.52, 0.17], [0.6, 0.2], [0.64, 0.27], [0.62, 0.35], [0.56, 0.41], [0.48, 0.45],
    [0.57, 0.48], [0.64, 0.55], [0.66, 0.64], [0.62, 0.74], [0.54, 0.81], [0.44, 0.83], [0.36, 0.8], [0.31, 0.74],
  ];
  let wide = 28, tall = 28, base = null, strokes = [], changed = () => {};
  let cursor = null, down = false, drawing = null;

  const scratch = () => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [wide * GRAIN, tall * GRAIN];
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.fillStyle = "#000";
    context.fillRect(0, 0, canvas.width, canvas.height);
    return context;
  };
  const tool = () => document.querySelector("[name=tool]:checked").value;
  const plain = (point) => point;

  // The pen keeps its width whatever the digit is scaled by: digits of MNIST are about equally bold.
  const stroke = (context, line, place = plain, scale = 1) => {
    context.strokeStyle = context.fillStyle = line.tool === "pen" ? "#fff" : "#000";
    context.lineWidth = GRAIN * (line.tool === "pen" ? PEN : RUBBER * scale);
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    line.points.map(place).forEach(([x, y], at) => (at ? context.lineTo(x, y) : context.moveTo(x, y)));
    const [x, y] = place(line.points[0]);
    if (line.points.length === 1) context.lineTo(x + 0.01, y);
    context.stroke();
  };
  const paint = (context, place, scale) => {
    if (base) {
      context.imageSmoothingEnabled = false;
      context.drawImage(base, 0, 0, wide * GRAIN, tall * GRAIN);
    }
    for (const line of strokes) stroke(context, line, place, scale);
    return context;
  };

  // Where the ink is: its box and its centre of mass, in points of the pad.
  const ink = (context) => {
    const { width, height } = context.canvas;
    const values = context.getImageData(0, 0, width, height).data;
    let [left, top, right, bottom, mass, x, y] = [width, height, -1, -1, 0, 0, 0];
    for (let row = 0; row < height; row += 1) {
      for (let column = 0; column < width; column += 1) {
        const value = values[4 * (row * width + column)];
        if (!value) continue;
        left = Math.min(left, column); right = Math.max(right, column);
        top = Math.min(top, row); bottom = Math.max(bottom, row);
        mass += value; x += value * column; y += value * row;
      }
    }
    return mass ? { left, top, right: right + 1, bottom: bottom + 1, x: x / mass + 0.5, y: y / mass + 0.5 } : null;
  };

  // A free drawing is scaled into MNIST's box and moved to its centre of mass; one over a sample stays where it is.
  const placed = () => {
    const found = base ? null : ink(paint(scratch()));
    if (!found) return paint(scratch());
    const pen = GRAIN * PEN;
    const room = GRAIN * INSIDE * Math.min(wide, tall) - pen;
    const extent = Math.max(found.right - found.left, found.bottom - found.top) - pen;
    const scale = Math.min(3, Math.max(0.4, room / Math.max(extent, 1)));
    const middle = [(found.left + found.right) / 2, (found.top + found.bottom) / 2];
    const centre = [(wide * GRAIN) / 2, (tall * GRAIN) / 2];
    const about = ([x, y]) => [(x - middle[0]) * scale + centre[0], (y - middle[1]) * scale + centre[1]];
    const first = ink(paint(scratch(), about, scale));
    const shift = first ? [centre[0] - first.x, centre[1] - first.y] : [0, 0];
    return paint(scratch(), (point) => about(point).map((value, axis) => value + shift[axis]), scale);
  };

  // Each of the network's pixels is the mean of the points it covers, which makes the edges soft.
  const small = (context) => {
    const values = context.getImageData(0, 0, wide * GRAIN, tall * GRAIN).data;
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [wide, tall];
    const made = canvas.getContext("2d").createImageData(wide, tall);
    for (let row = 0; row < tall; row += 1) {
      for (let column = 0; column < wide; column += 1) {
        let sum = 0;
        for (let y = 0; y < GRAIN; y += 1) {
          for (let x = 0; x < GRAIN; x += 1) sum += values[4 * ((row * GRAIN + y) * wide * GRAIN + column * GRAIN + x)];
        }
        const at = 4 * (row * wide + column);
        made.data.fill(Math.round(sum / GRAIN ** 2), at, at + 3);
        made.data[at + 3] = 255;
      }
    }
    canvas.getContext("2d").putImageData(made, 0, 0);
    return canvas;
  };

  const refresh = () => {
    const shown = pad.getContext("2d");
    shown.drawImage(paint(scratch()).canvas, 0, 0);
    if (cursor && document.activeElement === pad) {
      shown.strokeStyle = down ? "#ff9a6b" : "#7eb1ff";
      shown.lineWidth = 2;
      shown.beginPath();
      shown.arc(cursor[0], cursor[1], (GRAIN * (tool() === "pen" ? PEN : RUBBER)) / 2 + 2, 0, 7);
      shown.stroke();
    }
    $("undo").disabled = strokes.length === 0;
    $("clear").disabled = strokes.length === 0 && !base;
  };
  const begin = (point) => { drawing = { tool: tool(), points: [point] }; strokes.push(drawing); refresh(); };
  const end = () => { if (drawing) { drawing = null; changed(); } };

  const at = (event) => {
    const box = pad.getBoundingClientRect();
    return [((event.clientX - box.left) * pad.width) / box.width, ((event.clientY - box.top) * pad.height) / box.height];
  };
  pad.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    event.preventDefault();
    pad.setPointerCapture(event.pointerId);
    pad.focus({ focusVisible: false });
    [cursor, down] = [null, false];
    begin(at(event));
  });
  pad.addEventListener("pointermove", (event) => {
    if (!drawing || !pad.hasPointerCapture(event.pointerId)) return;
    const all = event.getCoalescedEvents?.() ?? [];
    drawing.points.push(...(all.length ? all : [event]).map(at));
    refresh();
  });
  for (const name of ["pointerup", "pointercancel"]) pad.addEventListener(name, end);

  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  pad.addEventListener("keydown", (event) => {
    const { key } = event;
    if (key in arrows && !event.ctrlKey && !event.metaKey && !event.altKey) {
      const step = GRAIN * (event.shiftKey ? 4 : 1);
      const limits = [pad.width, pad.height];
      cursor ??= limits.map((limit) => limit / 2);
      cursor = cursor.map((value, axis) => Math.min(limits[axis], Math.max(0, value + step * arrows[key][axis])));
      if (down) drawing ? drawing.points.push([...cursor]) : begin([...cursor]);
    } else if (key === " ") {
      cursor ??= [pad.width / 2, pad.height / 2];
      down = !down;
      if (down) begin([...cursor]); else end();
      Play.say(down ? `${tool()} down` : `${tool()} up`);
    } else if (key === "Escape" && down) {
      down = false;
      end();
    } else return;
    event.preventDefault();
    refresh();
  });
  pad.addEventListener("focus", () => { if (pad.matches(":focus-visible")) cursor ??= [pad.width / 2, pad.height / 2]; refresh(); });
  pad.addEventListener("blur", () => { if (down) { down = false; end(); } refresh(); });

  $("undo").addEventListener("click", () => { strokes.pop(); refresh(); changed(); });
  $("clear").addEventListener("click", () => { Play.pad.wipe(); changed(); pad.focus(); });

  Play.pad = {
    onchange: (then) => { changed = then; },
    size: (width, height) => {
      [wide, tall, base, strokes] = [width, height, null, []];
      [pad.width, pad.height] = [wide * GRAIN, tall * GRAIN];
      refresh();
    },
    wipe: () => { [base, strokes, cursor, down, drawing] = [null, [], null, false, null]; refresh(); },
    // What the model sees of a sample or a file stands under the pen, pixel by pixel.
    under: (picture) => { [base, strokes] = [picture, []]; refresh(); },
    note: () => (base || !strokes.length ? "" : "Scaled and centred as MNIST’s digits are."),
    sketch: () => {
      Play.pad.wipe();
      const points = SKETCH.map(([x, y]) => [x * pad.width, y * pad.height]);
      strokes = [{ tool: "pen", points }];
      refresh();
    },
    busy: () => drawing !== null,
    png: () => Play.bytesOf(small(placed()).toDataURL("image/png")), // toBlob may wait for an idle moment
  };
})();
