// Flying comments on a canvas. Where a comment is follows from the media time alone, so a seek needs no catching up.

/** Seconds that a comment takes to cross the picture, and that a standing one stays. */
export const CROSSING_S = 8;
const STANDING_S = 4;
const FONT = '"Noto Sans CJK SC", "Noto Sans CJK JP", "PingFang SC", "Hiragino Sans", "Microsoft YaHei", system-ui, sans-serif';
/** Share of the height that lanes may use, from the top. */
const USED = 0.86;
const ROWS = 13;
const MEASURED_PX = 64;

const byTime = (a, b) => a.time - b.time;

/** All comments of a stream: sorted, given lanes for a size of the picture, and drawn. */
export class Comments {
  constructor() {
    this.items = [];
    this.placed = [];
    this.size = "";
    this.widths = new Map();
  }

  /** Width of a text in letters of MEASURED_PX; measured once. */
  width(context, text) {
    let width = this.widths.get(text);
    if (width === undefined) {
      context.font = `600 ${MEASURED_PX}px ${FONT}`;
      width = context.measureText(text).width;
      this.widths.set(text, width);
    }
    return width;
  }

  /** Replace all comments: {time, text, mode, color, size}, time in seconds. */
  set(items) {
    this.items = [...items].sort(byTime);
    this.size = "";
  }

  /** Add one, for example of the viewer's own. */
  add(item) {
    this.items = [...this.items, item].sort(byTime);
    this.size = "";
  }

  /** Give every comment a lane where it meets no other; who finds none is not shown. */
  place(context, width, height) {
    const row = height / ROWS;
    const rows = Math.floor(ROWS * USED);
    const lanes = { scroll: [], reverse: [], top: [], bottom: [] };
    this.placed = [];
    for (const item of this.items) {
      const pixels = row * 0.76 * Math.min(Math.max(item.size || 1, 0.5), 2);
      const span = (this.width(context, item.text) * pixels) / MEASURED_PX;
      const flies = item.mode === "scroll" || item.mode === "reverse";
      const end = item.time + (flies ? CROSSING_S : STANDING_S);
      const speed = flies ? (width + span) / CROSSING_S : 0;
      const used = lanes[item.mode] ?? lanes.scroll;
      const need = pixels > row ? 2 : 1;
      const lane = findLane(used, rows, need, (last) =>
        !flies
          ? last.end <= item.time
          : last.inside <= item.time && last.end - item.time <= width / speed);
      if (lane === null) continue;
      const inside = flies ? item.time + (span + row * 0.5) / speed : end;
      for (let i = 0; i < need; i += 1) used[lane + i] = { end, inside };
      const y = item.mode === "bottom" ? height - (lane + need / 2 + 0.35) * row : (lane + need / 2 + 0.2) * row;
      this.placed.push({ ...item, pixels, span, speed, end, y, image: null });
    }
  }

  /** Draw what is to be seen at a media time, in a picture of this size (device pixels). */
  draw(context, time, width, height) {
    const size = `${width}x${height}`;
    if (this.size !== size) {
      this.place(context, width, height);
      this.size = size;
    }
    for (let i = firstAfter(this.placed, time - CROSSING_S); i < this.placed.length; i += 1) {
      const item = this.placed[i];
      if (item.time > time) break;
      if (time >= item.end) {
        item.image = null;
        continue;
      }
      item.image ??= picture(item);
      const gone = (time - item.time) * item.speed;
      let x = (width - item.span) / 2;
      if (item.mode === "reverse") x = gone - item.span;
      else if (item.speed) x = width - gone;
      context.drawImage(item.image, x - item.image.margin, item.y - item.image.height / 2);
    }
  }
}

function findLane(used, rows, need, fits) {
  for (let lane = 0; lane + need <= rows; lane += 1) {
    let free = true;
    for (let i = 0; i < need; i += 1) free &&= !used[lane + i] || fits(used[lane + i]);
    if (free) return lane;
  }
  return null;
}

/** Text is drawn once and then moved: letters cost far more than a copy. */
function picture(item) {
  const margin = Math.ceil(item.pixels * 0.2);
  const image = document.createElement("canvas");
  image.width = Math.ceil(item.span) + 2 * margin;
  image.height = Math.ceil(item.pixels * 1.4);
  image.margin = margin;
  const context = image.getContext("2d");
  context.font = `600 ${item.pixels}px ${FONT}`;
  context.textBaseline = "middle";
  context.lineJoin = "round";
  context.lineWidth = Math.max(item.pixels * 0.13, 2);
  context.strokeStyle = dark(item.color) ? "rgb(255 255 255 / 70%)" : "rgb(0 0 0 / 72%)";
  context.strokeText(item.text, margin, image.height / 2);
  context.fillStyle = item.color;
  context.fillText(item.text, margin, image.height / 2);
  return image;
}

function dark(color) {
  const value = parseInt(color.slice(1), 16);
  return 0.3 * (value >> 16) + 0.59 * ((value >> 8) & 255) + 0.11 * (value & 255) < 48;
}

function firstAfter(items, time) {
  let [low, high] = [0, items.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (items[middle].time < time) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** What flies where no comment file was named, so that there is something to see: every few seconds of the first hours. */
export function sampleComments() {
  const texts = [
    "Hello from behind the picture", "233333", "nice light", "wwwwww", "the comments go around!", "where is this?", "88888888",
    "first time here", "look at the edges of the hair", "good evening everyone", "how is there no flicker", "+1", "wow",
    "who is this?", "here again, as every week", "please wave once", "he hears us", "this is the best part",
  ];
  const colors = ["#ffffff", "#ffffff", "#ffffff", "#ffe28a", "#9fd6ff", "#b8f2c9", "#ffc2d8"];
  const found = [];
  for (let n = 0; n < 9000; n += 1) {
    const turn = (n * 7919) % 104729;
    found.push({
      time: n * 0.8 + (turn % 100) / 160 - 6,
      text: texts[turn % texts.length],
      mode: "scroll",
      color: colors[turn % colors.length],
      size: 1,
    });
  }
  return found;
}
