// Masks of the live feed put to use: kept by time, and cut out of a canvas or of an element's box.
// `Decoder` (mask-code.js) turns messages into masks; nothing here or there touches the page but `clip`, which sets one
// style, nor the network.

import { UNITS } from "./mask-code.js";

export * from "./mask-code.js";

/** @typedef {import("./mask-code.js").MaskFrame} MaskFrame */

/** Masks of one stream by time; those of an earlier epoch are forgotten when one of another comes. */
export class History {
  #seconds;
  #frames = [];

  /** @param {number} seconds How much to keep behind the latest. */
  constructor(seconds = 60) {
    this.#seconds = seconds;
  }

  get length() {
    return this.#frames.length;
  }

  /** @param {MaskFrame} frame In any order; one of the same time is replaced. */
  add(frame) {
    if (this.#frames.length && this.#frames[0].epoch !== frame.epoch) this.#frames = [];
    const frames = this.#frames;
    const after = this.#after(frame.pts);
    if (after > 0 && frames[after - 1].pts === frame.pts) frames[after - 1] = frame;
    else frames.splice(after, 0, frame);
    const oldest = frames[frames.length - 1].pts - this.#seconds;
    // Sixteen at a time: to take off the first moves all others.
    if (frames.length > 16 && frames[15].pts < oldest) frames.splice(0, this.#after(oldest));
  }

  /** The mask of the picture at a time: the last one that is not later; null where none is. */
  at(seconds) {
    // Times that were turned from rational numbers to decimals on different ways differ by less than this.
    return this.#frames[this.#after(seconds + 1e-4) - 1] ?? null;
  }

  /**
   * The mask to use for the picture at a time; null means that comments are to be shown everywhere.
   * @param {number} seconds Media time of the picture.
   * @param {number} stale A mask is used for that many seconds after its own time, or as long as its picture is shown.
   */
  maskAt(seconds, stale = 0.5) {
    const frame = this.at(seconds);
    return frame?.applied && seconds - frame.pts <= Math.max(stale, frame.duration) ? frame : null;
  }

  clear() {
    this.#frames = [];
  }

  /** How many masks are not later than a time. */
  #after(seconds) {
    let low = 0;
    let high = this.#frames.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#frames[middle].pts <= seconds) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/**
 * The matrix a, b, c, d, e, f, as of a canvas, from a mask's points to where the video is shown.
 * @param {MaskFrame} frame
 * @param {{x: number, y: number, width: number, height: number}} box Of the upright picture, without bars.
 */
export function matrix({ width, height, rect, rotation }, box) {
  // To the video's own square 0..1 first, which is then turned and laid over the box.
  const [sx, sy] = [1 / (width * UNITS * rect.width), 1 / (height * UNITS * rect.height)];
  const [tx, ty] = [-rect.x / rect.width, -rect.y / rect.height];
  const turned = {
    0: [sx, 0, 0, sy, tx, ty],
    90: [0, sx, -sy, 0, 1 - ty, tx],
    180: [-sx, 0, 0, -sy, 1 - tx, 1 - ty],
    270: [0, -sx, sy, 0, ty, 1 - tx],
  }[rotation];
  const [a, b, c, d, e, f] = turned;
  const { x, y, width: w, height: h } = box;
  return [a * w, b * h, c * w, d * h, e * w + x, f * h + y];
}

/** Add a mask's polygons to a Path2D or to the current path of a canvas. */
export function addOutline(path, frame, box) {
  const [a, b, c, d, e, f] = matrix(frame, box);
  for (const points of frame.polygons) {
    for (let i = 0; i < points.length; i += 2) {
      const x = a * points[i] + c * points[i + 1] + e;
      const y = b * points[i] + d * points[i + 1] + f;
      if (i) path.lineTo(x, y);
      else path.moveTo(x, y);
    }
    path.closePath();
  }
}

/** @returns {Path2D} Where people are. */
export function outlinePath(frame, box) {
  const path = new Path2D();
  addOutline(path, frame, box);
  return path;
}

/** Take away what has been drawn on a canvas where people are; `frame` may be null: nothing is taken. */
export function cut(context, frame, box) {
  if (!frame?.applied) return;
  context.save();
  context.globalCompositeOperation = "destination-out";
  context.globalAlpha = 1;
  context.fillStyle = "#000";
  context.fill(outlinePath(frame, box), "evenodd");
  context.restore();
}

/**
 * The value of CSS `clip-path` that leaves of an element what is not people.
 * @param {MaskFrame|null} frame Null: the element is left whole.
 * @param {{x: number, y: number, width: number, height: number}} box Of the picture, within the element, CSS pixels.
 * @param {number} width Of the element, CSS pixels.
 * @param {number} height
 */
export function clipPath(frame, box, width, height) {
  if (!frame?.applied || !frame.polygons.length) return "none";
  let path = `M0 0H${width}V${height}H0Z`;
  const short = (value) => Math.round(value * 10) / 10;
  addOutline(
    {
      moveTo: (x, y) => (path += `M${short(x)} ${short(y)}`),
      lineTo: (x, y) => (path += `L${short(x)} ${short(y)}`),
      closePath: () => (path += "Z"),
    },
    frame,
    box,
  );
  return `path(evenodd, "${path}")`;
}

/** Show of an element, such as the layer of a comment renderer, what is not people; `frame` may be null. */
export function clip(element, frame, box) {
  const value = clipPath(frame, box, element.clientWidth, element.clientHeight);
  if (element.style.clipPath !== value) element.style.clipPath = value;
}

/** Where a picture lies in a box that it is fitted into whole, as a video element shows it. */
export function fitted(width, height, videoWidth, videoHeight) {
  const scale = Math.min(width / videoWidth, height / videoHeight);
  const [w, h] = [videoWidth * scale, videoHeight * scale];
  return { x: (width - w) / 2, y: (height - h) / 2, width: w, height: h };
}
