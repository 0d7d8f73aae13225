// The tiles below the picture: what the server measures of the stream, and what this page receives.

const NONE = "\u2013";
const POINTS = 60;

const round = (value, digits = 0) => (value === null || value === undefined ? NONE : value.toFixed(digits));

function bytes(value) {
  return value < 1000 ? [value.toFixed(0), "B/s"] : [(value / 1000).toFixed(1), "kB/s"];
}

/** One tile: a name, a value with its unit, a note, and a line of its last values. */
class Tile {
  constructor(parent, name) {
    this.node = document.createElement("article");
    this.node.className = "tile";
    const title = document.createElement("h2");
    title.textContent = name;
    this.value = document.createElement("p");
    this.note = document.createElement("p");
    this.note.className = "note";
    this.points = [];
    this.line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", `0 0 ${POINTS - 1} 30`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    svg.append(this.line);
    this.node.append(title, this.value, this.note, svg);
    parent.append(this.node);
  }

  show(value, unit, note, point) {
    const small = document.createElement("small");
    small.textContent = unit;
    this.value.replaceChildren(value, value === NONE ? "" : small);
    this.note.textContent = note;
    this.points.push(Number.isFinite(point) ? point : null);
    if (this.points.length > POINTS) this.points.shift();
    const top = Math.max(...this.points, 1e-9) * 1.15;
    const first = POINTS - this.points.length;
    const drawn = this.points.map((y, i) => (y === null ? "" : `${first + i},${(29 - (28 * y) / top).toFixed(1)}`));
    this.line.setAttribute("points", drawn.join(" "));
  }
}

/** All tiles; `update` is called once a second. */
export class Panel {
  constructor(parent) {
    parent.replaceChildren();
    this.lag = new Tile(parent, "Lag, packet to mask");
    this.masks = new Tile(parent, "Masks");
    this.bytes = new Tile(parent, "Feed");
    this.age = new Tile(parent, "Mask on the picture");
  }

  update(feed, sync) {
    const figures = feed.status?.figures ?? {};
    const rates = feed.rates();
    const lag = figures.lag_ms_p50;
    this.lag.show(round(lag), "ms", lag === null || lag === undefined ? "no masks just now" : `p99 ${round(figures.lag_ms_p99)} ms`, lag);
    this.masks.show(round(rates.masks, 1), "/s", `${(figures.masks ?? 0).toLocaleString("en")} in all`, rates.masks);
    const size = figures.message_bytes_p50;
    this.bytes.show(...bytes(rates.bytes), size ? `${size} bytes a mask (median)` : "", rates.bytes);
    const age = sync.age;
    this.age.node.classList.toggle("bad", age === null && sync.enabled);
    const why = !sync.enabled ? "masks are off" : feed.lost ? "the feed is lost: comments show" : "no mask for this picture";
    this.age.show(age === null ? NONE : round(age * 1000), "ms old", age === null ? why : "comments go behind people", age === null ? null : age * 1000);
  }
}
