// What stands above and below the table: the tiles, the distribution, the faults of the set, the run itself.

function tile(label, value, note) {
  return el("div", { class: "tile" }, el("p", { class: "label" }, label), el("p", { class: "value" }, value), el("p", { class: "note" }, note));
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

const linkTo = (row) => el("a", { href: `#v=${row.id}` }, el("bdi", {}, row.name));

function drawTiles(showFailed) {
  const failed = rows.length - scored.length;
  const scores = scored.map((row) => row.score).filter(known);
  const tiles = [
    tile("Videos", text.count(rows.length), [
      el("span", {}, `${text.count(scored.length)} scored`),
      failed ? el("button", { type: "button", class: "link bad-ink", id: "show-failed", onclick: showFailed }, `${text.count(failed)} failed`) : el("span", {}, "none failed"),
    ]),
  ];
  if (scores.length) {
    const worst = scored.filter((row) => known(row.score)).reduce((a, b) => (b.score < a.score ? b : a));
    const best = scores.reduce((a, b) => Math.max(a, b));
    tiles.push(
      tile("Median score", text.score(median(scores)), `from ${text.score(worst.score)} to ${text.score(best)}, of 100`),
      tile("Lowest score", [text.score(worst.score), worst.grade && gradeChip(worst.grade)], linkTo(worst)),
    );
  }
  const run = page.run;
  if (run.files === 0) {
    tiles.push(tile("Throughput", NONE, "all results were there already"));
  } else if (known(run.fps)) {
    const length = scored.reduce((sum, row) => sum + (row.duration_s ?? 0), 0);
    const whole = run.seconds && run.files === rows.length && length;
    const note = known(run.seconds) ? `${text.length(run.seconds)}${whole ? `, ${text.rate(length / run.seconds)}\u00d7 real time` : ""}` : "";
    tiles.push(tile("Throughput", [text.rate(run.fps), el("small", {}, "frames/s")], note));
  }
  byId("tiles").append(...tiles);
}

function drawHistogram() {
  const BINS = 20;
  const counts = Array.from({ length: BINS }, () => new Map());
  for (const row of scored) {
    if (!known(row.score)) continue;
    const bin = counts[clamp(Math.floor((row.score * BINS) / 100), 0, BINS - 1)];
    bin.set(row.grade, (bin.get(row.grade) ?? 0) + 1);
  }
  const sum = (bin) => [...bin.values()].reduce((a, b) => a + b, 0);
  const top = Math.max(...counts.map(sum));
  if (!top) {
    byId("histogram").append(el("p", { class: "muted" }, "No video has a score."));
    return;
  }
  const width = clamp(byId("histogram").clientWidth || 560, 300, 760);
  const [height, left, bottom] = [190, 30, 22];
  const x = (score) => left + ((width - left - 6) * score) / 100;
  const step = niceStep(top / 3, [1, 2, 5]);
  const ceiling = Math.ceil(top / step) * step;
  const y = (count) => height - bottom - ((height - bottom - 10) * count) / ceiling;
  const parts = [];
  for (let count = 0; count <= ceiling; count += step) {
    parts.push(svg("line", { class: count ? "grid" : "axis", x1: left, x2: width - 6, y1: y(count), y2: y(count) }));
    parts.push(svg("text", { x: left - 6, y: y(count) + 4, "text-anchor": "end" }, String(count)));
  }
  for (let score = 0; score <= 100; score += 20) {
    parts.push(svg("text", { x: x(score), y: height - 6, "text-anchor": score === 100 ? "end" : "middle" }, String(score)));
  }
  counts.forEach((bin, index) => {
    const from = (index * 100) / BINS;
    let below = 0;
    const group = svg("g", {}, svg("title", {}, `${text.videos(sum(bin))} from ${from} to ${from + 100 / BINS}`));
    for (const grade of [...grades].reverse()) {
      const count = bin.get(grade) ?? 0;
      if (!count) continue;
      const box = { x: x(from) + 1.5, width: x(100 / BINS) - left - 3, y: y(below + count), height: y(below) - y(below + count), rx: 2 };
      group.append(svg("rect", { class: `fill ${grade}`, ...box }));
      below += count;
    }
    if (below) parts.push(group);
  });
  const label = `Distribution of scores: ${grades.map((grade) => `${grade} ${scored.filter((row) => row.grade === grade).length}`).join(", ")}`;
  byId("histogram").append(svg("svg", { class: "plot", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, parts), gradeLegend());
}

/** Each grade, how many have it and where it begins. */
function gradeLegend() {
  const items = page.grades.map(([from, grade]) => {
    const count = scored.filter((row) => row.grade === grade).length;
    return el("li", {}, gradeChip(grade), el("b", {}, text.count(count)), from > 0 && el("small", { class: "muted" }, `from ${from}`));
  });
  return el("ul", { class: "legend" }, items);
}

/** The smallest step of 1, 2, 5 (or the given mantissas) times a power of ten that is at least `least`. */
function niceStep(least, mantissas) {
  const power = 10 ** Math.floor(Math.log10(Math.max(least, 1)));
  return mantissas.map((m) => m * power).find((step) => step >= least) ?? 10 * power;
}

/** One line of a bar list: a name, a bar for a share of 1, and what is written after it. */
function barLine(name, parts, note) {
  const bars = parts.map(([kind, share]) => el("i", { class: kind, style: { width: `${clamp(share, 0, 1) * 100}%` } }));
  return el("li", {}, el("span", { class: "name" }, name), el("span", { class: "track", "aria-hidden": "true" }, bars), el("span", { class: "note" }, note));
}

function drawFaults(showFault) {
  const list = faultKinds
    .map((kind) => {
      const weights = scored.map((row) => weightOf(row, kind));
      return { kind, mean: weights.reduce((a, b) => a + b, 0) / weights.length, videos: weights.filter((w) => w >= PRESENT).length };
    })
    .sort((a, b) => b.videos - a.videos || b.mean - a.mean);
  if (!list.length) {
    byId("faults").append(el("p", { class: "muted" }, "The model names no faults."));
    return;
  }
  const lines = list.map(({ kind, videos }) => {
    const name = el("button", { type: "button", class: "link", onclick: () => showFault(kind) }, text.title(kind));
    return barLine(name, [["fault", videos / scored.length]], text.videos(videos));
  });
  byId("faults").append(el("ul", { class: "bars" }, lines), el("p", { class: "muted" }, "Videos in which the fault is more likely there than not."));
}

function drawRun() {
  const run = page.run;
  const stages = Object.entries(run.stages ?? {});
  if (stages.length) {
    const lines = stages.map(([name, stage]) => {
      const workers = known(stage.workers) ? ` \u00d7 ${stage.workers}` : "";
      const bars = [["busy", stage.busy ?? 0], ["wait", stage.wait ?? 0]];
      return barLine(text.title(name) + workers, bars, `${text.share(stage.busy)} busy, ${text.share(stage.wait)} waiting`);
    });
    byId("stages").append(el("ul", { class: "bars stages" }, lines), el("p", { class: "muted" }, "Busy is work, waiting is for input or for room behind, the rest is starting and ending. The busiest stage sets the pace."));
  }
  const host = run.host ?? {};
  const settings = [...new Set(rows.map((row) => row.settings_key).filter(known))];
  const versions = Object.entries(run.versions ?? {}).map(([name, version]) => `${name} ${version}`);
  const pairs = [
    ["Started", run.started],
    ["Took", text.length(run.seconds)],
    ["Files in this run", text.count(run.files)],
    ["Frames decoded", text.count(run.frames_decoded)],
    ["Frames scored", text.count(run.frames_scored)],
    ["Processor", host.cpu],
    ["Cores", host.cores],
    ["Settings", settings.join(", ")],
    ["Versions", versions.join(", ")],
  ];
  byId("run-facts").append(...facts(pairs));
}
