// The messages of the live feed, decoded. docs/mask-feed.md specifies the bytes.

/** Points are in 1/UNITS of a pixel of the grid. */
export const UNITS = 4;
export const VERSION = 1;
/** Limits: what goes beyond is damaged. */
export const MAX_BYTES = 65536;
export const MAX_SIDE = 4096;
export const MAX_POLYGONS = 255;
export const MAX_POINTS = 4096;

const KEY = 1;
const APPLIED = 2;
const RECT = 4;
const KNOWN_FLAGS = 0b0011_0111;
const ROTATION_SHIFT = 4;
const RECT_ONE = 65535;
const U32 = 2 ** 32 - 1;
const WHOLE = Object.freeze({ x: 0, y: 0, width: 1, height: 1 });

/** A message is damaged, or is a delta whose key is not there. */
export class CodeError extends Error {
  name = "CodeError";
}

/**
 * A mask and all that a renderer must know of it.
 * @typedef {object} MaskFrame
 * @property {number} epoch Counts the restarts of the stream's clock; times of two epochs must not be compared.
 * @property {number} sequence Counts the masks of a stream within an epoch.
 * @property {number} pts Presentation time, seconds.
 * @property {number} duration How long it is shown, seconds; 0 where unknown.
 * @property {number} ptsUs Presentation time, whole microseconds.
 * @property {number} durationUs
 * @property {number} arrivalUs When its packet arrived, microseconds of Unix time; 0 where unknown.
 * @property {{x: number, y: number, width: number, height: number}} rect The video within the grid, 0..1.
 * @property {number} rotation Degrees clockwise to turn the mask upright, as players show the video.
 * @property {boolean} applied False: comments are to be shown everywhere.
 * @property {number} width Of the grid, pixels.
 * @property {number} height
 * @property {Int16Array[]} polygons Where people are: x, y, x, y, ... in 1/UNITS pixel, y down; fill by either rule.
 */

/**
 * Tell which mask a message holds, without its outline.
 * @param {Uint8Array|ArrayBuffer} data
 * @returns {{epoch: number, sequence: number, ptsUs: number, key: boolean, arrivalUs: number}}
 */
export function peek(data) {
  const reader = new Reader(data);
  const flags = reader.flags();
  const [epoch, sequence] = [reader.within("the epoch", 0, U32), reader.within("the sequence", 0, U32)];
  const [ptsUs, , arrivalUs] = [reader.signed(), reader.varint(), reader.varint()];
  return { epoch, sequence, ptsUs, key: (flags & KEY) !== 0, arrivalUs };
}

/** Decodes the messages of one stream; holds the last key. */
export class Decoder {
  #key = null;
  #needsKey = true;

  /** True until the first key, and from a delta whose key was lost until the next. */
  get needsKey() {
    return this.#needsKey;
  }

  /**
   * Return the mask of a message. When it throws, the decoder stays as it was and can go on.
   * @param {Uint8Array|ArrayBuffer} data
   * @returns {MaskFrame}
   * @throws {CodeError}
   */
  decode(data) {
    const reader = new Reader(data);
    const flags = reader.flags();
    const frame = {
      epoch: reader.within("the epoch", 0, U32),
      sequence: reader.within("the sequence", 0, U32),
      ptsUs: reader.signed(),
      durationUs: reader.varint(),
      arrivalUs: reader.varint(),
      rect: WHOLE,
      rotation: 90 * (flags >> ROTATION_SHIFT),
      applied: (flags & APPLIED) !== 0,
    };
    frame.pts = frame.ptsUs / 1e6;
    frame.duration = frame.durationUs / 1e6;
    let known = [];
    if (flags & KEY) {
      frame.width = reader.within("a grid's width of", 1, MAX_SIDE);
      frame.height = reader.within("a grid's height of", 1, MAX_SIDE);
      if (flags & RECT) frame.rect = reader.rect();
    } else {
      const key = this.#keyOf(frame, reader.varint());
      ({ width: frame.width, height: frame.height, rect: frame.rect, polygons: known } = key);
    }
    frame.polygons = reader.polygons(known, frame.width * UNITS, frame.height * UNITS);
    reader.end();
    if (flags & KEY) {
      this.#key = frame;
      this.#needsKey = false;
    }
    return frame;
  }

  #keyOf({ epoch, sequence }, distance) {
    const wanted = sequence - distance;
    const key = this.#key;
    if (key && key.epoch === epoch && key.sequence === wanted) return key;
    // A delta that comes late belongs to an older key; the one held is still good for what is to come.
    if (key) this.#needsKey = epoch > key.epoch || (epoch === key.epoch && wanted > key.sequence);
    throw new CodeError(`delta ${sequence} in epoch ${epoch} of key ${wanted}, which is not the last key seen`);
  }
}

/** Reads a message; every length is checked before anything is made from it. */
class Reader {
  constructor(data) {
    this.data = data instanceof Uint8Array ? data : new Uint8Array(data);
    this.at = 4;
  }

  flags() {
    const { data } = this;
    if (data.length > MAX_BYTES) throw new CodeError(`${data.length} bytes; no message is longer than ${MAX_BYTES}`);
    if (data.length < 4 || data[0] !== 0x56 || data[1] !== 0x4d) throw new CodeError("does not start with VM");
    if (data[2] !== VERSION) throw new CodeError(`version ${data[2]}; this reads version ${VERSION}`);
    const flags = data[3];
    if (flags & ~KNOWN_FLAGS || (flags & RECT && !(flags & KEY))) throw new CodeError(`flags ${flags} do not exist`);
    return flags;
  }

  varint() {
    // Multiplied and not shifted: shifts of numbers end at 32 bits.
    let value = 0;
    for (let scale = 1, count = 0; count < 8; scale *= 128, count += 1) {
      if (this.at >= this.data.length) throw this.damaged("ends within a number");
      const byte = this.data[this.at];
      this.at += 1;
      value += (byte & 127) * scale;
      if (byte < 128) {
        if (!Number.isSafeInteger(value)) throw this.damaged("has a number of more than 53 bits");
        return value;
      }
    }
    throw this.damaged("has a number of more than 8 bytes");
  }

  signed() {
    const value = this.varint();
    return value % 2 ? -(value + 1) / 2 : value / 2;
  }

  within(name, least, most) {
    const value = this.varint();
    if (value < least || value > most) throw this.damaged(`has ${name} ${value}, not ${least} to ${most}`);
    return value;
  }

  rect() {
    const x = this.within("a rectangle's corner at", 0, RECT_ONE - 1);
    const y = this.within("a rectangle's corner at", 0, RECT_ONE - 1);
    const width = this.within("a rectangle's width of", 1, RECT_ONE - x);
    const height = this.within("a rectangle's height of", 1, RECT_ONE - y);
    return { x: x / RECT_ONE, y: y / RECT_ONE, width: width / RECT_ONE, height: height / RECT_ONE };
  }

  polygons(known, right, bottom) {
    let room = MAX_POINTS;
    const polygons = [];
    const count = this.within("a polygon count of", 0, MAX_POLYGONS);
    while (polygons.length < count) {
      const points = [];
      for (let items = this.within("an item count of", 1, room); items > 0; items -= 1) {
        const item = this.varint();
        const number = Math.floor(item / 2);
        if (number < 1 || number > room) throw this.damaged(`has an item of no points, or over ${MAX_POINTS} in all`);
        room -= number;
        if (item % 2) this.copy(points, known, number);
        else this.steps(points, number, right, bottom);
      }
      if (points.length < 6) throw this.damaged(`has a polygon of ${points.length / 2} points`);
      polygons.push(Int16Array.from(points));
    }
    return polygons;
  }

  steps(points, number, right, bottom) {
    let x = points.length ? points[points.length - 2] : 0;
    let y = points.length ? points[points.length - 1] : 0;
    for (let done = 0; done < number; done += 1) {
      x += this.signed();
      y += this.signed();
      if (!(x >= 0 && x <= right && y >= 0 && y <= bottom)) throw this.damaged(`has a point off the grid, ${x}, ${y}`);
      points.push(x, y);
    }
  }

  copy(points, known, number) {
    let start = this.varint();
    for (const polygon of known) {
      const length = polygon.length / 2;
      if (start < length) {
        if (number > length) throw this.damaged(`copies ${number} points of a polygon of ${length}`);
        for (let i = start; i < start + number; i += 1) {
          const at = 2 * (i % length);
          points.push(polygon[at], polygon[at + 1]);
        }
        return;
      }
      start -= length;
    }
    throw this.damaged("copies a point that its key does not have");
  }

  end() {
    const over = this.data.length - this.at;
    if (over) throw this.damaged(`goes on for ${over} bytes after its end`);
  }

  damaged(what) {
    return new CodeError(`${what} (at byte ${this.at} of ${this.data.length})`);
  }
}
