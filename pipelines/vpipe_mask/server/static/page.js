// The page: which stream is looked at, its video, and the controls. Text is only ever text, never markup.

import { Comments, sampleComments } from "./comments.js";
import { Feed } from "./feed.js";
import { Panel } from "./panel.js";
import { Stage } from "./stage.js";

const SERVER = new URL("./", location.href);
const TOKEN = new URLSearchParams(location.search).get("token") ?? "";
/** Seconds that a live picture is shown behind the newest mask. */
const BEHIND_S = 0.5;

const byId = (id) => document.getElementById(id);
const video = byId("video");
const comments = new Comments();
const stage = new Stage(video, byId("comments"), byId("people"), comments);
let feed = null;
let panel = null;
let streams = [];
let hls = null;
let isHls = false;
/** The viewer has said which stream to look at. */
let picked = false;
/** The viewer wants to see what is live, and has not gone elsewhere. */
let following = false;

async function ask(path) {
  const answer = await fetch(new URL(path, SERVER), { headers: TOKEN ? { Authorization: `Bearer ${TOKEN}` } : {} });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(body.error ?? `${answer.status}`);
  return body;
}

function notice(text) {
  byId("notice").textContent = text;
  byId("notice").hidden = !text;
}

function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds || 0));
  const two = (value) => String(value).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

/** Look at a stream: its feed, its video, its comments. */
async function choose(stream) {
  feed?.close();
  hls?.destroy();
  hls = null;
  const chosen = new Feed(SERVER, stream.id, { token: TOKEN });
  let begun = false;
  feed = chosen;
  feed.addEventListener("status", () => {
    if (feed !== chosen) return;
    showState();
    placeInTime(feed.status?.info);
    if (begun || !isLive() || feed.status.figures.newest_pts === null) return;
    begun = true;
    if (stage.hasVideo) goLive();
  });
  stage.sync.feed = feed;
  panel = new Panel(byId("figures"));
  history.replaceState(null, "", `${location.pathname}${location.search}#${encodeURIComponent(stream.id)}`);
  showStreams();
  await play(stream);
  const path = `streams/${encodeURIComponent(stream.id)}/comments`;
  const found = stream.comments ? (await ask(path)).comments : sampleComments();
  if (feed !== chosen) return; // another was chosen meanwhile
  comments.set(found);
  byId("stage").dataset.ready = "true";
}

/** Give the player what the stream names: a file, HLS, or nothing, where outlines are shown alone. */
async function play(stream) {
  video.removeAttribute("src");
  video.load();
  stage.hasVideo = Boolean(stream.video);
  byId("people").hidden = stage.hasVideo;
  for (const id of ["play", "seek", "sound"]) byId(id).disabled = !stage.hasVideo;
  notice(stage.hasVideo ? "" : "No video was named at the start (--video); people are drawn by their outlines.");
  isHls = false;
  placeInTime(stream.info);
  if (!stage.hasVideo) return;
  const url = new URL(stream.video, SERVER);
  if (TOKEN && url.origin === location.origin) url.searchParams.set("token", TOKEN);
  isHls = /\.m3u8$/i.test(url.pathname);
  if (isHls) await playHls(url, stream.hls_js);
  else video.src = url;
}

/** A player shows a file from 0, whatever its first pts, and so are comments timed; HLS is another matter. */
function placeInTime(info) {
  if (isHls) return;
  const [number, base] = info?.time_base ?? [0, 1];
  stage.sync.offset = (info?.start_pts ?? 0) * (number / base);
}

async function playHls(url, hasHlsJs) {
  // hls.js comes first: it tells how its media time follows from the stream's pts. The browser's own player does not,
  // and a mask on the wrong picture is worse than none.
  stage.sync.offset = NaN;
  if (hasHlsJs && globalThis.MediaSource) {
    await new Promise((done, failed) => {
      const script = Object.assign(document.createElement("script"), { src: "static/hls.js", onload: done, onerror: failed });
      document.head.append(script);
    });
    hls = new globalThis.Hls({ liveSyncDuration: 2 });
    hls.on("hlsInitPtsFound", (_, { initPTS, timescale }) => {
      stage.sync.offset = initPTS / (timescale || 90000);
    });
    hls.on("hlsError", (_, { fatal, details }) => fatal && notice(`The video cannot be played: ${details}`));
    hls.loadSource(String(url));
    hls.attachMedia(video);
  } else if (video.canPlayType("application/vnd.apple.mpegurl")) {
    video.src = url;
    notice("Without hls.js (--hls-js FILE) no one tells which mask belongs to which picture: comments show everywhere.");
  } else notice("This browser does not play HLS by itself; start with --hls-js FILE.");
}

const isLive = () => feed?.status?.state === "live";
/** Media time of the newest mask. */
const edge = () => (feed.newest?.pts ?? feed.status?.figures?.newest_pts ?? 0) - stage.sync.offset;

/** Media time of what is to be seen live. */
const liveTime = () => hls?.liveSyncPosition ?? Math.max(0, Math.min(edge() - BEHIND_S, (video.duration || Infinity) - 0.1));

function goLive() {
  following = true;
  video.currentTime = liveTime();
  video.play().catch(() => {}); // a browser may want a click first
}

/** Keep a file as far behind the masks as it was, though two clocks are never the same; hls.js does this by itself. */
function keepUp() {
  if (!following || hls || !isLive() || video.paused || video.ended) {
    video.playbackRate = 1;
    return;
  }
  const ahead = liveTime() - video.currentTime;
  if (Math.abs(ahead) > 2) video.currentTime = liveTime();
  video.playbackRate = Math.abs(ahead) < 0.2 ? 1 : 1 + Math.min(Math.max(ahead / 5, -0.08), 0.08);
}

function showStreams() {
  byId("streams").replaceChildren(
    ...streams.map((stream) => {
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-current", String(feed?.id === stream.id));
      const dot = document.createElement("span");
      dot.className = `dot ${stream.state}`;
      button.append(dot, stream.id);
      button.onclick = () => {
        picked = true;
        choose(stream);
      };
      return button;
    }),
  );
}

function showState() {
  const status = feed.status;
  const words = { live: "live", connecting: "connecting", down: "no signal", ended: "ended", removed: "removed" };
  const state = feed.connected ? (words[status?.state] ?? "") : "feed lost, trying again";
  const size = status?.info ? `${status.info.width}\u00d7${status.info.height} ` : "";
  const strong = document.createElement("b");
  strong.textContent = state;
  byId("state").replaceChildren(size, strong, status?.state === "down" && status.reason ? `: ${status.reason}` : "");
}

function showTime() {
  const { duration } = video;
  const known = Number.isFinite(duration) && duration > 0;
  const seek = byId("seek");
  byId("time").textContent = clock(stage.mediaTime);
  byId("length").textContent = known ? clock(duration) : "";
  if (known && document.activeElement !== seek) seek.value = video.currentTime / duration;
  seek.style.setProperty("--part", `${seek.value * 100}%`);
  byId("player").classList.toggle("playing", !video.paused);
  byId("play").setAttribute("aria-label", video.paused ? "Play" : "Pause");
  byId("live").hidden = !isLive() || !stage.hasVideo || Math.abs(liveTime() - video.currentTime) < 2;
}

async function refresh() {
  try {
    streams = (await ask("streams")).streams;
    const live = streams.find((stream) => stream.state === "live");
    // Whoever has not said what to look at sees what there is to see.
    if (!picked && streams.length && (!feed || (live && ["connecting", "down"].includes(feed.status?.state)))) {
      const wanted = streams.find((stream) => stream.id === decodeURIComponent(location.hash.slice(1)));
      picked = !feed && wanted !== undefined;
      const best = wanted && picked ? wanted : (live ?? streams[0]);
      if (feed?.id !== best.id) await choose(best);
    }
    if (!streams.length) notice("No stream yet.");
    showStreams();
  } catch (error) {
    if (!feed) notice(TOKEN || !/token/.test(error.message) ? error.message : "Open this page with its token: /?token=...");
  }
}

function toggle() {
  following = false;
  if (video.paused) video.play();
  else video.pause();
}

function seekTo(seconds) {
  following = false;
  video.currentTime = seconds;
}

byId("play").onclick = toggle;
byId("stage").onclick = () => stage.hasVideo && toggle();
byId("live").onclick = goLive;
byId("seek").oninput = ({ target }) => {
  if (Number.isFinite(video.duration)) seekTo(target.value * video.duration);
};
byId("seek").onchange = ({ target }) => target.blur();
byId("sound").onclick = ({ currentTarget }) => {
  video.muted = !video.muted;
  currentTarget.setAttribute("aria-pressed", String(!video.muted));
};
byId("full").onclick = () => (document.fullscreenElement ? document.exitFullscreen() : byId("player").requestFullscreen());
byId("masks").onchange = ({ target }) => (stage.sync.enabled = target.checked);
byId("show").onchange = ({ target }) => (stage.visible = target.checked);
byId("say").onsubmit = (event) => {
  event.preventDefault();
  const text = byId("text").value.trim();
  if (text) comments.add({ time: stage.mediaTime + 0.05, text, mode: "scroll", color: "#86a8ff", size: 1 });
  byId("text").value = "";
};
document.onkeydown = (event) => {
  if (event.target.matches("input[type=text]") || event.ctrlKey || event.metaKey || event.altKey) return;
  const keys = {
    " ": () => !event.target.matches("button, input") && (event.preventDefault(), toggle()),
    m: () => byId("masks").click(),
    c: () => byId("show").click(),
    f: () => byId("full").click(),
    ArrowLeft: () => seekTo(video.currentTime - 5),
    ArrowRight: () => seekTo(video.currentTime + 5),
  };
  if (!event.target.matches("input[type=range]")) keys[event.key]?.();
};
video.onerror = () => stage.hasVideo && notice(`The video cannot be played: ${video.error?.message || "unknown format"}`);

setInterval(showTime, 200);
setInterval(keepUp, 500);
setInterval(() => feed && panel.update(feed, stage.sync), 1000);
setInterval(refresh, 3000);
refresh();
