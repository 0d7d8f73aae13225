// What the page holds: rows in one block, each video's frames in a block of its own that is parsed when looked at.

const NO_SCORE = 0xffff;
const NO_LEVEL = 0xff;
/** From this mean probability on, a fault counts as present in a video. */
const PRESENT = 0.5;

const page = JSON.parse(byId("data").textContent);
/** Names of the grades, best first. */
const grades = page.grades.map(([, name]) => name);
const rows = page.rows;
const rowById = new Map(rows.map((row) => [row.id, row]));

for (const row of rows) {
  const cut = row.path.replace(/\/+$/, "").lastIndexOf("/") + 1;
  row.name = row.path.slice(cut) || row.path;
  row.folder = row.path.slice(0, cut);
  row.failed = row.status === "failed";
  row.fault = row.faults.length ? row.faults[0] : null;
  const error = row.error ? [row.error.kind, row.error.message] : [];
  row.words = [row.path, row.codec, row.container, row.grade, row.summary, ...error].join("\n").toLowerCase();
}

const scored = rows.filter((row) => !row.failed);
const faultKinds = [...new Set(rows.flatMap((row) => row.faults.map((fault) => fault.kind)))];
const weightOf = (row, kind) => row.faults.find((fault) => fault.kind === kind)?.weight ?? 0;

function unpack(packed, Kind) {
  return new Kind(Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0)).buffer);
}

const details = new Map();

/** A video's frames: times in seconds, scores (NaN where there is none), strips of 0..1; null where none are kept. */
function detailOf(row) {
  if (!details.has(row.id)) {
    const block = byId(`d-${row.id}`);
    details.set(row.id, block && readDetail(JSON.parse(block.textContent)));
  }
  return details.get(row.id);
}

function readDetail(raw) {
  const scores = (packed) => Float32Array.from(unpack(packed, Uint16Array), (v) => (v === NO_SCORE ? NaN : v / 100));
  const strip = (packed) => Float32Array.from(unpack(packed, Uint8Array), (v) => (v === NO_LEVEL ? NaN : v / 254));
  const mean = scores(raw.mean);
  return {
    ...raw,
    end: raw.end_ms / 1000,
    t: Float64Array.from(unpack(raw.t, Uint32Array), (ms) => ms / 1000),
    mean,
    low: raw.low ? scores(raw.low) : mean,
    thinned: raw.frames > raw.points,
    luma: strip(raw.luma),
    faults: Object.entries(raw.faults).map(([kind, packed]) => [kind, strip(packed)]),
  };
}

/** Index of the last point at or before a time. */
function pointAt(detail, seconds) {
  let low = 0;
  let high = detail.t.length;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (detail.t[middle] <= seconds) low = middle;
    else high = middle;
  }
  return low;
}
