// The picture and what lies on it: comments drawn on a canvas, cut along the outlines of the people.

import { SILENT_MS } from "./feed.js";
import { outlinePath } from "./mask-feed.js";

/** How long a cut takes to come and go, so that a mask which fails for a moment is no flash. */
const FADE_MS = 100;
/** A tick later than this after the one before says nothing about the feed: its messages may wait behind it. */
const LATE_MS = 120;

/** Draws until it is told to stop. */
export class Stage {
  /**
   * @param {HTMLVideoElement} video What is below.
   * @param {HTMLCanvasElement} canvas What comments are drawn on; of the same box.
   * @param {HTMLCanvasElement} people Where people are drawn if there is no video.
   * @param {import("./comments.js").Comments} comments All comments.
   */
  constructor(video, canvas, people, comments) {
    this.video = video;
    this.canvas = canvas;
    this.people = people;
    this.comments = comments;
    this.context = canvas.getContext("2d");
    this.feed = null;
    this.masks = true;
    this.visible = true;
    /** Time of the stream minus media time of the video, seconds. */
    this.offset = 0;
    this.strength = 0;
    this.shown = { mediaTime: 0, at: performance.now() };
    this.frame = null;
    this.last = 0;
    this.draws = 0;
    const shown = (now, { mediaTime, expectedDisplayTime }) => {
      this.shown = { mediaTime, at: Math.max(expectedDisplayTime, now) };
      video.requestVideoFrameCallback(shown);
    };
    if ("requestVideoFrameCallback" in video) video.requestVideoFrameCallback(shown);
    const tick = (now) => {
      this.draw(now);
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  }

  /** Media time of the picture that is on the screen, seconds. */
  get mediaTime() {
    if (!this.video.hasAttribute("src")) return this.freeTime();
    return "requestVideoFrameCallback" in this.video ? this.shown.mediaTime : this.video.currentTime;
  }

  /** Without a video: the newest mask's time, running on. */
  freeTime() {
    const newest = this.feed?.newest;
    if (!newest) return 0;
    const time = newest.pts - this.offset - 0.1 + Math.min(performance.now() - this.feed.heard, 500) / 1000;
    this.free = Math.max(time, this.free > time + 1 ? -Infinity : (this.free ?? -Infinity));
    return this.free;
  }

  /** The same, running on between pictures, for what moves more smoothly than the video. */
  smoothTime(now) {
    const time = this.mediaTime;
    const { video } = this;
    if (!video.hasAttribute("src") || video.paused || video.seeking || video.readyState < 3) return time;
    return time + (Math.min(Math.max(now - this.shown.at, 0), 100) / 1000) * video.playbackRate;
  }

  draw(now) {
    const { canvas, context, feed } = this;
    const late = now - this.last > LATE_MS;
    const elapsed = now - this.last;
    this.last = now;
    const [width, height] = fit(canvas);
    const streamTime = this.mediaTime + this.offset;
    const wanted = this.masks && feed && !(feed.lost && !late) ? feed.maskAt(streamTime) : null;
    if (wanted) this.frame = wanted;
    else if (this.masks && feed && !feed.history.at(streamTime)) feed.fetchAround(streamTime);
    this.strength = wanted
      ? Math.min(1, this.strength + elapsed / FADE_MS)
      : Math.max(0, this.strength - elapsed / FADE_MS);
    const box = pictureBox(this.video, width, height, this.frame);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    if (this.visible) {
      context.save();
      context.translate(box.x, box.y);
      context.beginPath();
      context.rect(0, 0, box.width, box.height);
      context.clip();
      this.comments.draw(context, this.smoothTime(now), box.width, box.height);
      context.restore();
      if (this.frame && this.strength > 0) this.cut(context, box);
    }
    if (!this.video.hasAttribute("src")) this.drawPeople(box, wanted);
    this.draws += 1;
  }

  /** Take comments away where people are; the edge is softened by half a line's width. */
  cut(context, box) {
    context.globalCompositeOperation = "destination-out";
    context.globalAlpha = this.strength;
    const path = outlinePath(this.frame, box);
    context.fill(path, "evenodd");
    context.globalAlpha = this.strength / 2;
    context.lineWidth = Math.max(box.width / 640, 1);
    context.stroke(path);
    context.globalAlpha = 1;
    context.globalCompositeOperation = "source-over";
  }

  drawPeople(box, frame) {
    const [width, height] = fit(this.people);
    const context = this.people.getContext("2d");
    context.fillStyle = "#161b24";
    context.fillRect(0, 0, width, height);
    if (!frame) return;
    const shade = context.createLinearGradient(0, 0, 0, height);
    shade.addColorStop(0, "#3d4a66");
    shade.addColorStop(1, "#2a3347");
    context.fillStyle = shade;
    context.fill(outlinePath(frame, box), "evenodd");
  }
}

/** Give a canvas as many pixels as it has on the screen; returns them. */
function fit(canvas) {
  const ratio = Math.min(devicePixelRatio || 1, 2);
  const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  return [width, height];
}

/** Where the picture lies in a box that it is fitted into without being cut or stretched. */
export function pictureBox(video, width, height, frame) {
  const aspect = video.videoWidth ? video.videoWidth / video.videoHeight : frame ? frame.width / frame.height : 16 / 9;
  const scale = Math.min(width / aspect, height);
  const box = { width: scale * aspect, height: scale };
  return { ...box, x: (width - box.width) / 2, y: (height - box.height) / 2 };
}
