// The picture and what lies on it: comments drawn on a canvas, cut along the outlines of the people.

import { fitted, outlinePath } from "./mask-feed.js";
import { Sync } from "./sync.js";

/** Seconds behind the newest mask that outlines are shown at where there is no video. */
const BEHIND_S = 0.1;

/** Draws as long as the page lives. */
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
    this.sync = new Sync(video);
    this.visible = true;
    /** False: people are drawn by their outlines. */
    this.hasVideo = true;
    this.free = 0;
    const tick = (now) => {
      this.draw(now);
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  }

  /** Media time of what is on the screen, seconds. */
  get mediaTime() {
    return this.hasVideo ? this.sync.mediaTime : this.free;
  }

  /** Without a video: the newest mask's time, running on, never back but in a new epoch. */
  freeTime(now) {
    const { feed, offset } = this.sync;
    if (!feed?.newest) return 0;
    const time = feed.newest.pts - offset - BEHIND_S + Math.min(Math.max(now - feed.heard, 0), 500) / 1000;
    return this.free > time + 1 ? time : Math.max(time, this.free);
  }

  draw(now) {
    const { canvas, context, sync } = this;
    const [width, height] = fit(canvas);
    if (!this.hasVideo) this.free = this.freeTime(now);
    sync.look(now, this.mediaTime);
    const box = this.pictureBox(width, height);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    if (this.visible) {
      context.save();
      context.beginPath();
      context.rect(box.x, box.y, box.width, box.height);
      context.clip();
      context.translate(box.x, box.y);
      this.comments.draw(context, this.hasVideo ? sync.smoothTime(now) : this.free, box.width, box.height);
      context.restore();
      if (sync.strength > 0) this.cut(context, box);
    }
    if (!this.hasVideo) this.drawPeople(box);
  }

  /** Take comments away where people are; the edge is softened by half a line's width. */
  cut(context, box) {
    const { frame, strength } = this.sync;
    const path = outlinePath(frame, box);
    context.globalCompositeOperation = "destination-out";
    context.globalAlpha = strength;
    context.fill(path, "evenodd");
    context.globalAlpha = strength / 2;
    context.lineWidth = Math.max(box.width / 640, 1);
    context.stroke(path);
    context.globalAlpha = 1;
    context.globalCompositeOperation = "source-over";
  }

  drawPeople(box) {
    const [width, height] = fit(this.people);
    const context = this.people.getContext("2d");
    context.globalAlpha = 1;
    context.fillStyle = "#161b24";
    context.fillRect(0, 0, width, height);
    if (!this.sync.frame) return;
    const shade = context.createLinearGradient(0, 0, 0, height);
    shade.addColorStop(0, "#46557a");
    shade.addColorStop(1, "#2a3347");
    context.fillStyle = shade;
    context.globalAlpha = this.sync.strength;
    context.fill(outlinePath(this.sync.frame, box), "evenodd");
  }

  /** Where the picture lies on the stage, device pixels. */
  pictureBox(width, height) {
    const { videoWidth, videoHeight } = this.video;
    if (videoWidth) return fitted(width, height, videoWidth, videoHeight);
    const { frame } = this.sync;
    if (!frame) return fitted(width, height, 16, 9);
    const [w, h] = [frame.width * frame.rect.width, frame.height * frame.rect.height];
    return frame.rotation % 180 ? fitted(width, height, h, w) : fitted(width, height, w, h);
  }
}

/** Give a canvas as many pixels as it has on the screen; returns them. */
function fit(canvas) {
  const ratio = Math.min(devicePixelRatio || 1, 2);
  const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  return [width, height];
}
