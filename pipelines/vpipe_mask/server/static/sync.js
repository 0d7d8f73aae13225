// Which mask belongs to the picture that is on the screen just now, and an element that is cut along it.

import { clip, fitted } from "./mask-feed.js";

/** How long a cut takes to come and go, so that a mask which fails for a moment is no flash. */
const FADE_MS = 100;
/** One tick so late after the one before says nothing about the feed: its messages may wait behind the tick. */
const LATE_MS = 120;
/** That is, if the feed was heard not longer ago when the wait began: silence before that is the feed's own. */
const HEARD_MS = 150;

/** The masks of a feed in step with a video. */
export class Sync {
  /**
   * @param {HTMLVideoElement} video
   * @param {import("./feed.js").Feed|null} feed
   */
  constructor(video, feed = null) {
    this.video = video;
    this.feed = feed;
    /** False: comments show everywhere. */
    this.enabled = true;
    /** Time of the stream minus media time of the video, seconds; NaN: not known, comments show everywhere. */
    this.offset = 0;
    /** The mask that is cut, or that was last; null before the first. */
    this.frame = null;
    /** How much of the cut is made, 0..1. */
    this.strength = 0;
    /** Seconds by which the mask is older than the picture; null: there is none for it. */
    this.age = null;
    this.shown = { mediaTime: 0, at: 0 };
    this.last = 0;
    this.late = false;
    // What was asked for in vain may have been made since.
    this.sought = () => this.feed?.askAgain();
    video.addEventListener("seeking", this.sought);
    const shown = (now, { mediaTime, expectedDisplayTime }) => {
      this.shown = { mediaTime, at: Math.max(expectedDisplayTime, now) };
      this.request = video.requestVideoFrameCallback(shown);
    };
    if ("requestVideoFrameCallback" in video) this.request = video.requestVideoFrameCallback(shown);
  }

  /** Media time of the picture that is on the screen, seconds. */
  get mediaTime() {
    return "requestVideoFrameCallback" in this.video ? this.shown.mediaTime : this.video.currentTime;
  }

  /** The same, running on between pictures, for what moves more smoothly than the video. */
  smoothTime(now) {
    const { video } = this;
    if (video.paused || video.seeking || video.readyState < 3) return this.mediaTime;
    return this.mediaTime + (Math.min(Math.max(now - this.shown.at, 0), 100) / 1000) * video.playbackRate;
  }

  /** Look at the picture of this moment; called once for every tick of the screen. */
  look(now, mediaTime = this.mediaTime) {
    const { feed } = this;
    const elapsed = now - this.last;
    const excused = elapsed > LATE_MS && !this.late && this.last - (feed?.heard ?? 0) < HEARD_MS;
    this.last = now;
    this.late = excused;
    const time = mediaTime + this.offset;
    const usable = this.enabled && feed !== null && Number.isFinite(time) && (excused || !feed.lost);
    const frame = usable ? feed.maskAt(time) : null;
    if (usable && !feed.knows(time)) feed.fetchAround(time);
    if (frame) this.frame = frame;
    this.age = frame ? Math.max(time - frame.pts, 0) : null;
    this.strength = Math.min(1, Math.max(0, this.strength + ((frame ? 1 : -1) * elapsed) / FADE_MS));
  }

  close() {
    this.video.removeEventListener("seeking", this.sought);
    if (this.request !== undefined) this.video.cancelVideoFrameCallback(this.request);
  }
}

/**
 * Keep an element, such as the layer of a comment renderer, cut along the people in a video.
 * @param {HTMLElement} element Lies over the video; what of it is over people is not shown.
 * @param {HTMLVideoElement} video
 * @param {import("./feed.js").Feed} feed
 * @param {{offset?: number}} options Time of the stream minus media time of the video, seconds.
 * @returns {() => void} Ends it.
 */
export function follow(element, video, feed, { offset = 0 } = {}) {
  const sync = new Sync(video, feed);
  sync.offset = offset;
  let running = true;
  const tick = (now) => {
    if (!running) return;
    sync.look(now);
    const [layer, below] = [element.getBoundingClientRect(), video.getBoundingClientRect()];
    const box = fitted(below.width, below.height, video.videoWidth || 16, video.videoHeight || 9);
    box.x += below.x - layer.x;
    box.y += below.y - layer.y;
    clip(element, sync.strength > 0.5 ? sync.frame : null, box);
    requestAnimationFrame(tick);
  };
  requestAnimationFrame(tick);
  return () => {
    running = false;
    sync.close();
    clip(element, null);
  };
}
