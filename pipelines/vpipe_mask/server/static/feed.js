// A stream's masks as they come from the server: the connection, what is known of the stream, and whether it is fresh.

import { Decoder, History } from "./mask-feed.js";

/** A feed that is silent for longer is lost: comments show. With the fade of sync.js this stays under 500 ms. */
const SILENT_MS = 340;
/** A mask is not used for a picture that much later than itself. */
const STALE_S = 0.34;
const RETRY_MS = [250, 500, 1000, 2000, 4000];
const WINDOW_MS = 4000;
/** Seconds of masks fetched around a place in time where none is known. */
const AROUND_S = 6;

/** One stream's feed; emits `status` and `mask`. */
export class Feed extends EventTarget {
  /**
   * @param {URL|string} server Address of the server, ending with a slash.
   * @param {string} id Of the stream.
   * @param {{token?: string, history?: number}} options Token, and seconds of masks to keep.
   */
  constructor(server, id, { token = "", history = 600 } = {}) {
    super();
    this.id = id;
    this.base = new URL(`streams/${encodeURIComponent(id)}/`, server);
    this.token = token;
    this.status = null;
    this.history = new History(history);
    this.connected = false;
    this.heard = -Infinity;
    this.recent = [];
    this.failures = 0;
    this.closed = false;
    this.connect();
  }

  connect() {
    const url = new URL("feed", this.base);
    url.protocol = url.protocol.replace("http", "ws");
    if (this.token) url.searchParams.set("token", this.token);
    // Of what there was before the connection was lost, nothing may be true any more.
    this.decoder = new Decoder();
    this.newest = null;
    this.history.clear();
    this.asked = new Map();
    this.socket = new WebSocket(url);
    this.socket.binaryType = "arraybuffer";
    this.socket.onmessage = ({ data }) => (typeof data === "string" ? this.told(JSON.parse(data)) : this.took(data));
    this.socket.onclose = () => {
      this.connected = false;
      if (this.closed) return;
      this.retry = setTimeout(() => this.connect(), RETRY_MS[Math.min(this.failures, RETRY_MS.length - 1)]);
      this.failures += 1;
      this.dispatchEvent(new Event("status"));
    };
  }

  told(status) {
    this.connected = true;
    this.failures = 0;
    this.status = status;
    this.dispatchEvent(new Event("status"));
  }

  took(data) {
    const now = performance.now();
    this.heard = now;
    this.recent.push([now, data.byteLength]);
    while (now - this.recent[0][0] > WINDOW_MS) this.recent.shift();
    let frame;
    try {
      frame = this.decoder.decode(new Uint8Array(data));
    } catch {
      return; // damaged, or its key was missed; the next key is at most two seconds away
    }
    if (this.newest && frame.epoch !== this.newest.epoch) this.asked.clear();
    this.newest = frame;
    this.history.add(frame);
    this.dispatchEvent(new Event("mask"));
  }

  /** The mask for the picture at a time of the stream, seconds; null: show comments everywhere. */
  maskAt(seconds) {
    return this.history.maskAt(seconds, STALE_S);
  }

  /** Whether the mask for a time came, be it one that is not applied. */
  knows(seconds) {
    const frame = this.history.at(seconds);
    return frame !== null && seconds - frame.pts <= Math.max(STALE_S, frame.duration);
  }

  /** Whether masks should be coming and are not. */
  get lost() {
    if (this.status?.state === "ended") return false;
    return !this.connected || performance.now() - this.heard > SILENT_MS;
  }

  /** Make sure that the masks around a time are known, as after a seek. */
  async fetchAround(seconds) {
    const cell = Math.floor(seconds / AROUND_S);
    for (const each of [cell, cell + 1]) await this.fetchCell(each);
  }

  /** Forget what was fetched, so that it is fetched again where it is still missing. */
  askAgain() {
    this.asked.clear();
  }

  async fetchCell(cell) {
    const now = performance.now();
    // What is asked for may still be made: asked again, but not at every turn.
    if (now - (this.asked.get(cell) ?? -Infinity) < 2000) return;
    this.asked.set(cell, now);
    const url = new URL("masks", this.base);
    url.searchParams.set("from", cell * AROUND_S);
    url.searchParams.set("to", (cell + 1) * AROUND_S);
    const headers = this.token ? { Authorization: `Bearer ${this.token}` } : {};
    try {
      const answer = await fetch(url, { headers });
      if (!answer.ok) return;
      const bytes = new Uint8Array(await answer.arrayBuffer());
      const view = new DataView(bytes.buffer);
      const decoder = new Decoder();
      for (let at = 0; at + 4 <= bytes.length; ) {
        const length = view.getUint32(at, true);
        this.history.add(decoder.decode(bytes.subarray(at + 4, at + 4 + length)));
        at += 4 + length;
      }
      this.dispatchEvent(new Event("mask"));
    } catch {
      // The connection is down, or masks are damaged: comments show.
    }
  }

  /** Masks and bytes a second as this page receives them. */
  rates() {
    const now = performance.now();
    while (this.recent.length && now - this.recent[0][0] > WINDOW_MS) this.recent.shift();
    const span = WINDOW_MS / 1000;
    const bytes = this.recent.reduce((sum, [, size]) => sum + size, 0);
    return { masks: this.recent.length / span, bytes: bytes / span };
  }

  close() {
    this.closed = true;
    clearTimeout(this.retry);
    this.socket.close();
  }
}
