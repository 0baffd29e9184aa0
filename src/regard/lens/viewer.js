// One view for each article whose weights are in the page: all heads in small, one head or a mean of several in full,
// one token's row and column. Every text goes through textContent or fillText, so none of it can become markup.

const LISTED = 8;

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// The layout is that of edges.py: tops, rests, weights, and steps from place to place unless all places are kept.
function reader(level, bytes, units) {
  const size = level.names.length;
  const { kept } = level;
  const rows = units * size;
  const two = (start, i) => bytes[start + 2 * i] + 256 * bytes[start + 2 * i + 1];
  const weights = bytes.subarray(4 * rows, 4 * rows + rows * kept);
  let places = null;
  if (kept < size) {
    const low = 4 * rows + rows * kept;
    places = new Uint16Array(rows * kept);
    for (let row = 0, e = 0; row < rows; row += 1) {
      for (let k = 0, place = 0; k < kept; k += 1, e += 1) {
        place += bytes[low + e] + 256 * bytes[low + rows * kept + e];
        places[e] = place;
      }
    }
  }
  return {
    size,
    each(unit, then) {
      for (let i = 0; i < size; i += 1) {
        const row = unit * size + i;
        const step = two(0, row) / 65535 / 255;
        for (let k = 0; k < kept; k += 1) {
          const e = row * kept + k;
          if (weights[e]) then(i, places ? places[e] : k, weights[e] * step);
        }
      }
    },
    mean(chosen) {
      const out = new Float32Array(size * size);
      for (const unit of chosen) this.each(unit, (i, j, w) => (out[i * size + j] += w / chosen.length));
      return out;
    },
    // The largest weight that a row leaves out can be no larger than the smallest that it keeps.
    bound(chosen, i) {
      let sum = 0;
      for (const unit of chosen) {
        const row = unit * size + i;
        const part = weights.subarray(row * kept, (row + 1) * kept);
        sum += (Math.min(...part) + 0.5) * (two(0, row) / 65535 / 255);
      }
      return sum / chosen.length;
    },
    shown(chosen) {
      let rest = 0;
      for (const unit of chosen) for (let i = 0; i < size; i += 1) rest += two(2 * rows, unit * size + i) / 65535;
      return 1 - rest / (chosen.length * size);
    },
  };
}

async function show(article, data) {
  const { layers, heads } = data;
  const units = layers.length * heads.length;
  const L = data.labels;
  const say = (key, values) => L[key].replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
  const percent = (share) => (100 * share).toFixed(share > 0.0995 ? 0 : 1);
  const view = make("div", article, { className: "view" });
  const strip = article.querySelector(".strip");
  const caption = article.querySelector(".caption");
  if (!("DecompressionStream" in window)) {
    make("p", view, { textContent: L.old });
    return;
  }
  const sources = [];
  for (const level of data.levels) sources.push(reader(level, await unpack(level.weights), units));

  const last = (layers.length - 1) * heads.length;
  const state = { level: 0, chosen: heads.map((_, h) => last + h), from: data.from, to: data.to, incoming: false };
  let values = new Float32Array();

  function group(parent, title, choices, pick) {
    const box = make("div", parent, { className: "choice" }, { role: "group", "aria-label": title });
    return choices.map(([key, text]) => [key, make("button", box, { type: "button", textContent: text, onclick: () => pick(key) })]);
  }

  function picker(parent, title, options, pick) {
    const label = make("label", parent, { textContent: title });
    const select = make("select", label);
    make("option", select, { value: "", textContent: "–" });
    for (const [value, text] of options) make("option", select, { value, textContent: text });
    select.onchange = () => select.value !== "" && pick(select.value);
    return select;
  }

  const bar = make("div", view, { className: "bar" });
  const layerPicker = picker(bar, L.layer, [...layers.map((l, i) => [i, l]), ["all", L.all]], () => pickHeads());
  const headPicker = picker(bar, L.head, [...heads.map((h, i) => [i, h]), ["all", L.mean]], () => pickHeads());
  const unitButtons =
    data.levels.length > 1 ? group(bar, L.unit, data.levels.map((l, i) => [i, L[l.unit]]), (level) => update({ level })) : [];
  const directions = group(bar, L.direction, [[false, L.outgoing], [true, L.incoming]], (incoming) => update({ incoming }));
  const reading = make("output", view);
  const lists = make("div", view, { className: "lists" });
  const [looks, looked] = [make("div", lists), make("div", lists)];

  const columns = make("div", view, { className: "columns" });
  const left = make("div", columns);
  const heading = make("div", left, { className: "bar" });
  make("h4", heading, { textContent: L.heads });
  const adding = make("input", make("label", heading, { className: "soft", textContent: L.add }), { type: "checkbox" });
  const scroll = make("div", left, { className: "scroll" });
  const grid = make("div", scroll, { className: "heads" }, { role: "group", "aria-label": L.heads });
  grid.style.setProperty("--heads", heads.length);
  make("p", left, { className: "soft hint", textContent: L.heads_hint });
  const right = make("div", columns);
  const tools = make("div", right, { className: "bar" });
  const title = make("h4", tools);
  const zooms = make("div", tools, { className: "choice" });
  const step = (text, name, act) => make("button", zooms, { type: "button", textContent: text, onclick: act }, { "aria-label": name });
  step("−", L.zoom_out, () => matrix.zoom(-1));
  step("+", L.zoom_in, () => matrix.zoom(1));
  step("▣", L.fit, () => matrix.zoom(-99));
  const matrix = new Matrix(right, L, (from, to) => update({ from, to }), (i, j) => read(i, j));
  const norms = make("p", right, { className: "soft hint" });
  const share = make("p", right, { className: "soft hint" });

  // The grid: a corner for all heads, a number for each column and row, a picture for each head.
  const edge = (text, name, pick) => make("button", grid, { type: "button", className: "edge", textContent: text, onclick: pick }, { "aria-label": name });
  const every = [...Array(units).keys()];
  edge(L.all, `${L.layer} ${L.all}, ${L.head} ${L.all}`, () => update({ chosen: every }));
  heads.forEach((h, c) => edge(h, `${L.head} ${h}`, (e) => choose(e, every.filter((u) => u % heads.length === c))));
  const buttons = every.map((unit) => {
    const [layer, head] = [layers[Math.floor(unit / heads.length)], heads[unit % heads.length]];
    if (unit % heads.length === 0) {
      const row = every.slice(unit, unit + heads.length);
      edge(layer, `${L.layer} ${layer}`, (event) => choose(event, row));
    }
    const button = make("button", grid, { type: "button", tabIndex: -1, onclick: (event) => choose(event, [unit]) });
    make("canvas", button);
    make("span", button);
    return button;
  });
  buttons[last].tabIndex = 0;
  grid.onkeydown = (event) => {
    const unit = buttons.indexOf(event.target);
    const step = { ArrowUp: -heads.length, ArrowDown: heads.length, ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (unit < 0 || !step || !buttons[unit + step]) return;
    event.preventDefault();
    buttons[unit].tabIndex = -1;
    buttons[unit + step].tabIndex = 0;
    buttons[unit + step].focus();
  };

  function choose(event, wanted) {
    if (!(adding.checked || event.shiftKey || event.ctrlKey || event.metaKey)) return update({ chosen: wanted });
    const has = wanted.every((unit) => state.chosen.includes(unit));
    const chosen = every.filter((u) => (wanted.includes(u) ? !has : state.chosen.includes(u)));
    return chosen.length && update({ chosen });
  }

  function pickHeads() {
    const fits = (value, place) => value === "all" || Number(value) === place;
    if (layerPicker.value === "") layerPicker.value = layers.length - 1;
    if (headPicker.value === "") headPicker.value = "all";
    const at = (unit) => [Math.floor(unit / heads.length), unit % heads.length];
    update({ chosen: every.filter((u) => fits(layerPicker.value, at(u)[0]) && fits(headPicker.value, at(u)[1])) });
  }

  function which() {
    const [unit] = state.chosen;
    if (state.chosen.length > 1) {
      const rows = new Set(state.chosen.map((u) => Math.floor(u / heads.length)));
      const one = rows.size === 1 ? `${L.layer.toLowerCase()} ${layers[[...rows][0]]}, ` : "";
      return one + say("many", { count: state.chosen.length });
    }
    return say("one", { layer: layers[Math.floor(unit / heads.length)], head: heads[unit % heads.length] });
  }

  function pickersFollow() {
    const sets = [new Set(state.chosen.map((u) => Math.floor(u / heads.length))), new Set(state.chosen.map((u) => u % heads.length))];
    const product = sets[0].size * sets[1].size === state.chosen.length;
    const value = (set, count) => (!product ? "" : set.size === 1 ? [...set][0] : set.size === count ? "all" : "");
    layerPicker.value = value(sets[0], layers.length);
    headPicker.value = value(sets[1], heads.length);
  }

  const names = () => data.levels[state.level].names;
  const called = (i) => `\u2068${names()[i]}\u2069`; // isolated: a name that runs to the left turns no sentence round
  const size = () => names().length;
  const row = (i) => values.subarray(i * size(), (i + 1) * size());
  const column = (j) => Float32Array.from({ length: size() }, (_, i) => values[i * size() + j]);

  function read(i, j) {
    const weight = values[i * size() + j];
    const bound = Number(sources[state.level].bound(state.chosen, i).toPrecision(2));
    const known = weight > 0 || data.levels[state.level].kept === size() ? weight.toFixed(3) : say("unknown", { weight: bound });
    reading.textContent = say("reading", { from: called(i), i, to: called(j), j, weight: known });
  }

  function list(box, name, line) {
    box.replaceChildren();
    make("h4", box, { textContent: name });
    const items = make("ol", box);
    const best = [...line.keys()].sort((a, b) => line[b] - line[a]).slice(0, LISTED).filter((i) => line[i] > 0);
    for (const i of best) {
      const item = make("li", items, { onclick: () => update({ from: i }) });
      item.style.setProperty("--w", line[i] / (line[best[0]] || 1));
      make("bdi", item, { textContent: names()[i] });
      make("span", item, { className: "soft", textContent: i });
      make("span", item, { textContent: line[i].toFixed(3) });
    }
  }

  function shade() {
    const line = state.incoming ? column(state.from) : row(state.from);
    let best = 0;
    for (let i = 1; i < line.length; i += 1) if (line[i] > line[best]) best = i;
    const top = line[best] || 1;
    [...strip.children].forEach((item, i) => {
      item.style.setProperty("--w", (line[i] / top).toFixed(3));
      item.title = `${i}: ${line[i].toFixed(3)}`;
      item.classList.toggle("from", i === state.from);
      item.tabIndex = i === state.from ? 0 : -1;
      item.setAttribute("aria-current", i === state.from);
    });
    const [place, room] = [strip.children[state.from].offsetTop - strip.offsetTop, strip.clientHeight];
    if (place < strip.scrollTop || place > strip.scrollTop + room - 24) strip.scrollTop = place - room / 2;
    const direction = state.incoming ? L.incoming : L.outgoing;
    caption.textContent = say("caption", {
      from: called(state.from), i: state.from, which: which(), direction, top: line[best].toFixed(3), best: called(best), j: best,
    });
    list(looks, say("looks", { name: called(state.from) }), row(state.from));
    list(looked, say("looked", { name: called(state.from) }), column(state.from));
  }

  function tokens() {
    strip.replaceChildren();
    names().forEach((text, i) => make("li", strip, { textContent: text, dir: "auto", onclick: () => update({ from: i }) }));
    buttons.forEach((button, unit) => {
      const [kind, share] = data.levels[state.level].patterns[unit];
      const [layer, head] = [layers[Math.floor(unit / heads.length)], heads[unit % heads.length]];
      const words = say("pattern", { kind: L[kind], share: percent(share) });
      button.lastChild.textContent = kind === "broad" ? L[kind] : `${L[kind]} ${percent(share)}`;
      button.classList.toggle("plain", kind === "broad");
      button.title = `${say("one", { layer, head })}: ${words}`;
      button.setAttribute("aria-label", button.title);
    });
  }

  function weights() {
    const source = sources[state.level];
    values = source.mean(state.chosen);
    buttons.forEach((button, unit) => button.setAttribute("aria-pressed", state.chosen.includes(unit)));
    pickersFollow();
    title.textContent = which();
    const { kept, shown, names: all } = data.levels[state.level];
    const part = { kept, shown: (100 * shown).toFixed(1), now: (100 * source.shown(state.chosen)).toFixed(1) };
    share.textContent = kept === all.length ? L.whole : say("part", part);
    if (data.norms) {
      const mean = [0, 1, 2, 3].map((k) => state.chosen.reduce((sum, u) => sum + data.norms[u][k], 0) / state.chosen.length);
      const [before, after, moved] = mean.map(percent);
      norms.textContent = say("norms", { before, after, moved, correlation: mean[3].toFixed(2) });
    }
  }

  function draw(changed) {
    if (changed.level) tokens();
    if (changed.level || changed.theme) buttons.forEach((button, unit) => thumbnail(button.firstChild, sources[state.level], unit));
    if (changed.level || changed.chosen) weights();
    for (const [key, button] of unitButtons) button.setAttribute("aria-pressed", key === state.level);
    for (const [key, button] of directions) button.setAttribute("aria-pressed", key === state.incoming);
    shade();
    [matrix.row, matrix.column] = [state.from, state.to];
    if (changed.level || changed.chosen || changed.theme) matrix.show(values, names());
    matrix.draw();
    read(state.from, state.to);
  }

  function update(change) {
    const next = { ...state, ...change };
    const other = next.level !== state.level;
    if (other) [next.from, next.to] = [data.from, data.to].map((place) => (next.level === 0 ? place : 0));
    const end = data.levels[next.level].names.length - 1;
    [next.from, next.to] = [between(0, next.from, end), between(0, next.to, end)];
    const changed = Object.fromEntries(Object.keys(next).map((key) => [key, next[key] !== state[key]]));
    Object.assign(state, next);
    draw(changed);
  }

  strip.onkeydown = (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -size(), End: size() }[event.key];
    if (!step) return;
    event.preventDefault();
    update({ from: state.from + (strip.dir === "rtl" && Math.abs(step) === 1 ? -step : step) });
    strip.children[state.from].focus();
  };
  matrix.canvas.onkeydown = (event) => {
    const [down, across] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] || [0, 0];
    if (event.key === "+" || event.key === "-") matrix.zoom(event.key === "+" ? 1 : -1);
    else if (down || across) update({ from: state.from + down, to: state.to + across });
    else return;
    event.preventDefault();
    matrix.reveal();
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw({ theme: true }));
  article.classList.add("live");
  draw({ level: true, chosen: true });
}

for (const source of document.querySelectorAll("article.attention > script")) {
  show(source.parentElement, JSON.parse(source.textContent));
}
