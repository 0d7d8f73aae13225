// One video: opens over the page at #v=<id>, closes to where one was.

function figure(label, value, note) {
  return el("div", { class: "figure" }, el("p", { class: "label" }, label), el("p", { class: "value" }, value), note && el("p", { class: "note" }, note));
}

function section(title, ...content) {
  return el("section", {}, el("h3", {}, title), content);
}

function panelHead(row) {
  const place = shown.rows.indexOf(row);
  const step = (by, sign, label) => {
    const other = place < 0 ? null : shown.rows[place + by];
    return el("button", { type: "button", class: "icon", "aria-label": label, title: label, disabled: !other, onclick: () => location.replace(`#v=${other.id}`) }, sign);
  };
  return el("header", {},
    el("div", {}, el("h2", { id: "panel-name" }, el("bdi", {}, row.name)), row.folder && el("p", { class: "muted" }, el("bdi", {}, row.folder))),
    el("nav", { "aria-label": "Videos" }, step(-1, "\u2191", "Previous video"), step(1, "\u2193", "Next video"),
      el("button", { type: "button", class: "icon", id: "close", "aria-label": "Close", title: "Close", onclick: closePanel }, "\u2715")));
}

function drawPanel(row) {
  const body = row.failed ? failedBody(row) : scoredBody(row);
  byId("panel").replaceChildren(panelHead(row), el("div", { class: "body" }, body));
}

function failedBody(row) {
  const reason = el("p", { class: "alert" }, el("b", {}, row.error?.kind ?? "error"), " ", el("bdi", {}, row.error?.message ?? "No reason was given."));
  return [reason, section("File", el("dl", { class: "facts" }, facts(fileFacts(row))))];
}

function scoredBody(row) {
  const detail = detailOf(row);
  const chart = detail && timeChart(row, detail);
  const figures = el("div", { class: "figures" },
    el("div", { class: "figure main" }, el("p", { class: "label" }, "Score"), el("p", { class: "value" }, text.score(row.score), row.grade && gradeChip(row.grade))),
    known(row.score_low) && figure("Truth within", `${text.score(row.score_low)} \u2013 ${text.score(row.score_high)}`, "in 8 of 10 videos"),
    row.worst && figure("Worst second", text.score(row.worst.score), `at ${text.time(row.worst.at_s)}`),
    figure("5th percentile", text.score(row.p5)),
    figure("Mean", text.score(row.mean)),
    figure("Harmonic mean", text.score(row.harmonic_mean)),
    known(row.score_pixels) && figure("By the pixels alone", text.score(row.score_pixels)));
  const parts = [figures];
  if (row.out_of_scope) parts.push(el("p", { class: "alert" }, "The pictures are unlike all that the model learned from: its score means little here."));
  if (row.summary) parts.push(el("p", { class: "summary" }, row.summary));
  if (detail) {
    parts.push(section("Score over time", chart.node, chartNotes(detail)));
    if (detail.moments.length) parts.push(section("Worst moments", moments(row, detail, chart)));
  } else {
    parts.push(el("p", { class: "muted" }, "No frames of this video were kept."));
  }
  const faults = row.faults.map((fault) => barLine(text.title(fault.kind), [["fault", fault.weight]], text.share(fault.weight)));
  parts.push(el("div", { class: "pair" },
    section("Faults", faults.length ? el("ul", { class: "bars" }, faults) : el("p", { class: "muted" }, "None named."), el("p", { class: "muted" }, "How likely the fault is, on average over the video.")),
    section("Picture", el("dl", { class: "facts" }, facts(pictureFacts(row, detail))))));
  parts.push(section("File", el("dl", { class: "facts" }, facts(fileFacts(row)))));
  return parts;
}

function chartNotes(detail) {
  const keys = SPAN_KINDS.filter((kind) => detail.spans[kind].length).map((kind) => {
    const sum = detail.spans[kind].reduce((total, [from, to]) => total + to - from, 0) / 1000;
    return el("li", {}, el("i", { class: `key ${kind}`, "aria-hidden": "true" }), `${text.title(kind)} ${text.length(sum)}`);
  });
  const thinned = detail.thinned && el("li", { class: "muted" }, `${text.count(detail.frames)} frames drawn as ${text.count(detail.points)} points: the line is their mean, the shade goes down to their lowest.`);
  return el("ul", { class: "legend" }, keys, el("li", {}, el("i", { class: "key level", "aria-hidden": "true" }), "Score of the video"), thinned);
}

function moments(row, detail, chart) {
  return el("ul", { class: "moments" }, detail.moments.map((moment) => {
    const when = text.time(moment.at_s);
    const picture = el("img", { src: `data:image/jpeg;base64,${moment.jpeg}`, alt: `Picture at ${when}` });
    const show = () => {
      chart.seek(moment.at_s);
      chart.node.scrollIntoView({ block: "nearest" });
    };
    return el("li", {}, el("button", { type: "button", onclick: show, onfocus: show, onpointerenter: () => chart.seek(moment.at_s) }, picture, el("span", {}, el("time", {}, when), el("b", {}, text.score(moment.score)))));
  }));
}

function pictureFacts(row, detail) {
  const time = (share) => (share > 0 ? `${text.share(share)} of the time` : "none");
  return [
    ["Black", time(row.shares.black)],
    ["Frozen", time(row.shares.frozen)],
    ["Letterbox", time(row.shares.letterbox)],
    ["Mean brightness", detail && `${Math.round(detail.luma_mean)} (black 16, white 235)`],
    ["Clipped shadows", detail && `${text.share(detail.shadows)} of pixels`],
    ["Clipped highlights", detail && `${text.share(detail.highlights)} of pixels`],
  ];
}

function fileFacts(row) {
  const { seen, scored: taken, dropped, corrupt } = row.frames;
  const counts = [`${text.count(taken)} scored of ${text.count(seen)}`, dropped && `${text.count(dropped)} dropped`, corrupt && `${text.count(corrupt)} damaged`];
  const timings = Object.entries(row.timings).map(([name, seconds]) => `${text.word(name.replace(/_s$/, ""))} ${text.length(seconds)}`);
  return [
    ["Path", el("bdi", { class: "path" }, row.path)],
    ["Length", text.length(row.duration_s)],
    ["Picture", row.width ? `${row.width}\u00d7${row.height}${row.rotation ? `, turned ${row.rotation}\u00b0` : ""}` : null],
    ["Frames/s", row.frame_rate ? text.rate(row.frame_rate) : null],
    ["Codec", [row.codec, row.pixel_format].filter(known).join(", ")],
    ["Container", row.container],
    ["Size", text.bytes(row.size_bytes)],
    ["Bit rate", row.size_bytes && row.duration_s ? `${text.rate((row.size_bytes * 8) / row.duration_s / 1e6)} Mbit/s` : null],
    ["Frames", seen || taken ? counts.filter(Boolean).join(", ") : null],
    ["Model", row.model && `${row.model.name} ${row.model.version}`],
    ["Settings", row.settings_key],
    ["Content key", row.key && el("span", { class: "path" }, row.key)],
    ["Time spent", timings.join(", ")],
  ];
}

function closePanel() {
  byId("panel").close();
}
