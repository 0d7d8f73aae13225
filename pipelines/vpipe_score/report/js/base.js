// Elements and numbers as text. Nothing here or elsewhere makes HTML from strings: text is only ever text.

const SVG_SPACE = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, item] of Object.entries(value)) node.style.setProperty(key, item);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** An HTML element; `on...` attributes are listeners, children are nodes or text. */
function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG_SPACE, tag), attributes, children);
}

const byId = (id) => document.getElementById(id);
const known = (value) => value !== null && value !== undefined;
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const NONE = "\u2013";

const text = {
  score: (value) => (known(value) ? value.toFixed(1) : NONE),
  share: (value) => (known(value) ? `${value > 0 && value < 0.01 ? "<1" : Math.round(value * 100)} %` : NONE),
  count: (value) => (known(value) ? value.toLocaleString("en") : NONE),
  videos: (count) => `${count.toLocaleString("en")} video${count === 1 ? "" : "s"}`,
  word: (value) => value.replaceAll("_", " "),
  title: (value) => text.word(value).replace(/^./, (first) => first.toUpperCase()),

  /** A moment of a video: 1:02:03.4. */
  time(seconds, digits = 1) {
    const unit = 10 ** digits;
    const ticks = Math.round(seconds * unit);
    const whole = Math.floor(ticks / unit);
    const two = (value) => String(value).padStart(2, "0");
    const hours = Math.floor(whole / 3600);
    const minutes = Math.floor(whole / 60) % 60;
    const front = hours ? `${hours}:${two(minutes)}` : String(minutes);
    return `${front}:${two(whole % 60)}${digits ? `.${String(ticks % unit).padStart(digits, "0")}` : ""}`;
  },

  /** A length of time for people. */
  length(seconds) {
    if (!known(seconds)) return NONE;
    if (seconds < 120) return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
    const minutes = Math.round(seconds / 60);
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${String(Math.floor(seconds % 60)).padStart(2, "0")} s`;
    return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
  },

  bytes(value) {
    if (!known(value)) return NONE;
    const units = ["B", "kB", "MB", "GB", "TB"];
    let unit = 0;
    for (; value >= 999.5 && unit < units.length - 1; unit++) value /= 1000;
    return `${unit && value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
  },

  rate: (value) => (known(value) ? String(Number(value.toFixed(value < 100 ? 2 : 0))) : NONE),
};

/** A grade as a coloured dot and its word, never as colour alone. */
function gradeChip(grade) {
  return el("span", { class: `chip ${grade}` }, el("i", { "aria-hidden": "true" }), text.title(grade));
}

/** Terms and values for a `dl`; pairs without a value are left out. */
function facts(pairs) {
  return pairs
    .filter(([, value]) => known(value) && value !== "" && value !== NONE)
    .map(([term, value]) => el("div", {}, el("dt", {}, term), el("dd", {}, value)));
}
