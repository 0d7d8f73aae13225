// Score over time, and under it on the same axis: brightness and each fault. One cursor reads all of them.

const SPAN_KINDS = ["black", "frozen", "letterbox"];
const CHART = { top: 26, plot: 190, axis: 24, lane: 12, gap: 6, right: 14 };

/** A chart of one video that follows its container's width. Returns its element and `seek(seconds)`. */
function timeChart(row, detail) {
  const holder = el("div", { class: "chart-holder" });
  const tip = el("div", { class: "tip", hidden: true });
  const chart = el("div", {
    class: "chart",
    tabindex: "0",
    role: "slider",
    "aria-label": "Score over time; arrow keys read it point by point",
    "aria-valuemin": "0",
    "aria-valuemax": detail.end.toFixed(1),
    "aria-valuenow": "0",
  });
  chart.append(holder, tip);
  const state = { row, detail, at: null, scale: null, cursor: null };

  function draw() {
    const width = Math.max(chart.clientWidth, 260);
    state.scale = scaleOf(width, detail);
    state.cursor = svg("g", { class: "cursor", visibility: "hidden" }, svg("line", { y1: CHART.top, y2: state.scale.bottom }), svg("circle", { r: 4.5 }));
    const parts = [patterns(), spanShades(state), grid(state), lines(state), lanes(state), worstMark(state), state.cursor];
    const size = { viewBox: `0 0 ${width} ${state.scale.height}`, width, height: state.scale.height };
    holder.replaceChildren(svg("svg", { ...size, "aria-hidden": "true" }, parts));
    if (state.at !== null) seek(state.at);
  }

  /** Put the cursor at the point that covers a time and say what is there. */
  function seek(seconds) {
    const index = pointAt(detail, seconds);
    const { scale } = state;
    state.at = seconds;
    chart.setAttribute("aria-valuenow", detail.t[index].toFixed(1));
    chart.setAttribute("aria-valuetext", readOut(detail, index).join(", "));
    if (!scale) return;
    const x = scale.x(detail.t[index]);
    const score = detail.mean[index];
    state.cursor.setAttribute("visibility", "visible");
    state.cursor.firstChild.setAttribute("x1", x);
    state.cursor.firstChild.setAttribute("x2", x);
    state.cursor.lastChild.setAttribute("cx", x);
    state.cursor.lastChild.setAttribute("cy", scale.y(Number.isNaN(score) ? 0 : score));
    const [when, value, ...more] = readOut(detail, index);
    tip.replaceChildren(el("b", {}, when), el("span", {}, value), ...more.map((line) => el("small", {}, line)));
    tip.hidden = false;
    const half = tip.offsetWidth / 2;
    tip.style.left = `${clamp(x, half, scale.width - half)}px`;
  }

  function leave() {
    state.at = null;
    tip.hidden = true;
    state.cursor?.setAttribute("visibility", "hidden");
  }

  chart.addEventListener("pointermove", (event) => seek(state.scale.time(event.clientX - chart.getBoundingClientRect().left)));
  chart.addEventListener("pointerleave", leave);
  chart.addEventListener("blur", leave);
  chart.addEventListener("keydown", (event) => {
    const last = detail.t.length - 1;
    const index = state.at === null ? -1 : pointAt(detail, state.at);
    const steps = { ArrowLeft: index - 1, ArrowRight: index + 1, Home: 0, End: last, PageDown: index - 20, PageUp: index + 20 };
    if (!(event.key in steps)) return;
    event.preventDefault();
    seek(detail.t[clamp(steps[event.key], 0, last)]);
  });
  new ResizeObserver(draw).observe(chart);
  return { node: chart, seek };
}

function scaleOf(width, detail) {
  const narrow = width < 560;
  const left = narrow ? 32 : 104;
  const pitch = CHART.lane + CHART.gap + (narrow ? 14 : 0);
  const bottom = CHART.top + CHART.plot;
  return {
    width,
    narrow,
    left,
    pitch,
    bottom,
    height: bottom + CHART.axis + pitch * (detail.faults.length + 1),
    x: (seconds) => left + ((width - left - CHART.right) * clamp(seconds, 0, detail.end)) / detail.end,
    y: (score) => bottom - (CHART.plot * score) / 100,
    time: (x) => clamp(((x - left) * detail.end) / (width - left - CHART.right), 0, detail.end),
  };
}

/** What is true of one point, in words: when, the score, then whatever else there is. */
function readOut(detail, index) {
  const at = detail.t[index];
  const after = detail.t[index + 1] ?? detail.end;
  const many = detail.thinned && detail.low !== detail.mean && after > at;
  const digits = detail.end < 3600 ? 1 : 0;
  const score = detail.mean[index];
  const words = [many ? `${text.time(at, digits)} to ${text.time(after, digits)}` : text.time(at, digits)];
  words.push(Number.isNaN(score) ? "no score" : many ? `mean ${text.score(score)}, lowest ${text.score(detail.low[index])}` : `score ${text.score(score)}`);
  const spans = SPAN_KINDS.filter((kind) => detail.spans[kind].some(([from, to]) => from <= at * 1000 && at * 1000 < to));
  if (spans.length) words.push(spans.join(", "));
  const levels = detail.faults.map(([kind, strip]) => [kind, levelAt(strip, at, detail.end)]).filter(([, level]) => level >= PRESENT);
  for (const [kind, level] of levels.sort((a, b) => b[1] - a[1]).slice(0, 2)) words.push(`${text.word(kind)} ${text.share(level)}`);
  return words;
}

const levelAt = (strip, seconds, end) => strip[clamp(Math.floor((seconds * strip.length) / end), 0, strip.length - 1)];

/** Hatchings for spans, so that they differ by more than colour. */
function patterns() {
  const line = (kind, path, size) =>
    svg("pattern", { id: `hatch-${kind}`, class: `hatch ${kind}`, width: size, height: size, patternUnits: "userSpaceOnUse" }, svg("path", { d: path }));
  return svg("defs", {}, line("black", "M0 0H8M0 4H8", 8), line("frozen", "M0 8L8 0M-2 2L2 -2M6 10L10 6", 8), line("letterbox", "M0 0L8 8M-2 6L2 10M6 -2L10 2", 8));
}

function spanShades({ detail, scale }) {
  return SPAN_KINDS.flatMap((kind) =>
    detail.spans[kind].map(([from, to]) => {
      const [x0, x1] = [scale.x(from / 1000), scale.x(to / 1000)];
      const box = { x: x0, y: CHART.top, width: Math.max(x1 - x0, 1.5), height: CHART.plot };
      const title = svg("title", {}, `${kind} ${text.time(from / 1000)} to ${text.time(to / 1000)}`);
      return svg("g", { class: `span ${kind}`, "data-from": from, "data-to": to }, svg("rect", { ...box, class: "tint" }), svg("rect", { ...box, fill: `url(#hatch-${kind})` }), title);
    }),
  );
}

function grid({ detail, row, scale }) {
  const parts = [];
  for (let score = 0; score <= 100; score += 20) {
    parts.push(svg("line", { class: score ? "grid" : "axis", x1: scale.left, x2: scale.width - CHART.right, y1: scale.y(score), y2: scale.y(score) }));
    parts.push(svg("text", { x: scale.left - 8, y: scale.y(score) + 4, "text-anchor": "end" }, String(score)));
  }
  const room = (scale.width - scale.left) / (scale.narrow ? 60 : 80);
  const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200];
  const step = steps.find((candidate) => detail.end / candidate <= room) ?? 86400;
  for (let number = 0; number * step <= detail.end; number++) {
    const x = scale.x(number * step);
    parts.push(svg("line", { class: "axis", x1: x, x2: x, y1: scale.bottom, y2: scale.bottom + 4 }));
    parts.push(svg("text", { x, y: scale.bottom + 16, "text-anchor": x > scale.width - 30 ? "end" : "middle" }, text.time(number * step, step < 1 ? 1 : 0)));
  }
  if (known(row.score)) {
    parts.push(svg("line", { class: "level", x1: scale.left, x2: scale.width - CHART.right, y1: scale.y(row.score), y2: scale.y(row.score) }, svg("title", {}, `score of the video: ${text.score(row.score)}`)));
  }
  return parts;
}

function lines({ detail, scale }) {
  const stretches = [];
  let open = null;
  detail.mean.forEach((score, index) => {
    if (Number.isNaN(score)) open = null;
    else if (open) open.push(index);
    else stretches.push((open = [index]));
  });
  const point = (values) => (index) => `${scale.x(detail.t[index]).toFixed(1)} ${scale.y(values[index]).toFixed(1)}`;
  const parts = [];
  for (const indices of stretches) {
    const mean = indices.map(point(detail.mean));
    if (detail.thinned) {
      const low = [...indices].reverse().map(point(detail.low));
      parts.push(svg("path", { class: "envelope", d: `M${[...mean, ...low].join("L")}Z` }));
    }
    // The last point holds until its frame ends.
    const last = indices[indices.length - 1];
    const until = detail.t[last + 1] ?? detail.end;
    parts.push(svg("path", { class: "line", d: `M${mean.join("L")}H${scale.x(until).toFixed(1)}` }));
  }
  if (detail.points <= 40) parts.push(...[...detail.mean.keys()].filter((i) => !Number.isNaN(detail.mean[i])).map((i) => svg("circle", { class: "point", r: 2.5, cx: scale.x(detail.t[i]), cy: scale.y(detail.mean[i]) })));
  return parts;
}

/** The worst second: a band, a dot and what it says. */
function worstMark({ row, scale }) {
  if (!row.worst) return null;
  const { at_s: at, score } = row.worst;
  const [x0, x1] = [scale.x(at), scale.x(at + 1)];
  const [x, y] = [(x0 + x1) / 2, scale.y(score)];
  const words = `worst second ${text.time(at)}: ${text.score(score)}`;
  const room = words.length * 3.1;
  const anchor = x < scale.left + room ? "start" : x > scale.width - CHART.right - room ? "end" : "middle";
  return svg("g", { class: "worst", id: "worst-mark" },
    svg("rect", { x: x0, y: CHART.top, width: Math.max(x1 - x0, 2), height: CHART.plot }),
    svg("line", { x1: x, x2: x, y1: CHART.top - 6, y2: y }),
    svg("circle", { cx: x, cy: y, r: 4.5 }),
    svg("text", { x: anchor === "start" ? x0 : anchor === "end" ? x1 : x, y: CHART.top - 11, "text-anchor": anchor }, words));
}

/** Strips under the line: brightness as grey, faults as strength of their colour. */
function lanes({ detail, scale }) {
  const strips = [["brightness", detail.luma], ...detail.faults];
  return strips.map(([kind, strip], lane) => {
    const y = scale.bottom + CHART.axis + lane * scale.pitch + (scale.narrow ? 14 : 0);
    const step = detail.end / strip.length;
    const label = scale.narrow ? { x: scale.left, y: y - 4 } : { x: scale.left - 8, y: y + 10, "text-anchor": "end" };
    const cells = [];
    for (let from = 0, to; from < strip.length; from = to) {
      for (to = from + 1; to < strip.length && strip[to] === strip[from]; ) to++;
      if (Number.isNaN(strip[from])) continue;
      const x = scale.x(from * step);
      const look = kind === "brightness" && lane === 0 ? { style: { fill: `rgb(${Array(3).fill(Math.round(strip[from] * 255)).join(" ")})` } } : { class: "heat", "fill-opacity": strip[from].toFixed(2) };
      cells.push(svg("rect", { x, y, width: scale.x(to * step) - x, height: CHART.lane, ...look }));
    }
    const frame = svg("rect", { class: "lane", x: scale.left, y, width: scale.width - CHART.right - scale.left, height: CHART.lane });
    return svg("g", {}, svg("g", { class: "strip" }, frame, cells), svg("text", label, text.word(kind)));
  });
}
