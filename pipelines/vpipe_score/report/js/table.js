// The table: thousands of rows, of which one page at a time is drawn.

const PAGE_ROWS = 50;
/** Rows drawn for printing at most. */
const PRINT_ROWS = 2000;

/** One column: its heading, what it sorts by, what its cell shows. `low` columns go first where room is short. */
const COLUMNS = [
  { id: "name", label: "Video", key: (row) => row.name.toLowerCase(), cell: nameCell },
  { id: "score", label: "Score", number: true, key: (row) => row.score, cell: scoreCell },
  { id: "grade", label: "Grade", key: (row) => grades.indexOf(row.grade), cell: (row) => row.grade && gradeChip(row.grade) },
  { id: "over", label: "Over time", low: 1, cell: (row) => sparkLine(row) },
  { id: "worst", label: "Worst", number: true, key: (row) => row.worst?.score, cell: (row) => text.score(row.worst?.score) },
  { id: "p5", label: "5th pct.", number: true, low: 2, key: (row) => row.p5, cell: (row) => text.score(row.p5) },
  { id: "fault", label: "Main fault", key: (row) => (row.fault ? -row.fault.weight : null), cell: faultCell },
  { id: "duration", label: "Length", number: true, low: 2, key: (row) => row.duration_s, cell: (row) => (known(row.duration_s) ? text.time(row.duration_s, 0) : NONE) },
  { id: "picture", label: "Picture", number: true, low: 1, key: (row) => row.width && row.width * row.height, cell: (row) => (row.width ? `${row.width}\u00d7${row.height}` : NONE) },
  { id: "rate", label: "Frames/s", number: true, low: 3, key: (row) => row.frame_rate, cell: (row) => text.rate(row.frame_rate) },
  { id: "codec", label: "Codec", low: 2, key: (row) => row.codec, cell: (row) => row.codec ?? NONE },
  { id: "bytes", label: "Size", number: true, low: 3, key: (row) => row.size_bytes, cell: (row) => text.bytes(row.size_bytes) },
];

const shown = { sort: "score", down: false, text: "", grade: "", fault: "", page: 0, rows: [] };

function nameCell(row) {
  const folder = row.folder && el("span", { class: "folder" }, el("bdi", {}, row.folder));
  return [el("a", { href: `#v=${row.id}`, title: row.path }, el("bdi", {}, row.name)), folder];
}

function scoreCell(row) {
  if (!known(row.score)) return NONE;
  const level = el("i", { class: `fill ${row.grade}`, style: { width: `${clamp(row.score, 0, 100)}%` } });
  return [el("b", {}, text.score(row.score)), el("span", { class: "meter", "aria-hidden": "true" }, level)];
}

function faultCell(row) {
  if (!row.fault || row.fault.weight < 0.1) return el("span", { class: "muted" }, "none");
  const quiet = row.fault.weight < PRESENT ? "muted" : null;
  return el("span", { class: quiet }, text.word(row.fault.kind), el("span", { class: "muted" }, ` ${text.share(row.fault.weight)}`));
}

function sparkLine(row) {
  const detail = detailOf(row);
  if (!detail) return null;
  const [width, height, most] = [104, 26, 60];
  const points = [];
  const stride = Math.ceil(detail.points / most);
  for (let from = 0; from < detail.points; from += stride) {
    const scores = detail.mean.slice(from, from + stride).filter((score) => !Number.isNaN(score));
    if (!scores.length) continue;
    const x = ((width * detail.t[from]) / detail.end).toFixed(1);
    const y = (2 + ((height - 4) * (100 - scores.reduce((a, b) => a + b, 0) / scores.length)) / 100).toFixed(1);
    points.push(`${x},${y}`);
    if (from + stride >= detail.points) points.push(`${width},${y}`); // the last one holds to the end
  }
  const line = svg("polyline", { points: points.join(" ") });
  return svg("svg", { class: "spark", viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" }, line);
}

function drawRow(row) {
  const attributes = { "data-id": row.id, class: row.failed ? "failed" : null };
  const head = el("th", { scope: "row", class: "c-name" }, nameCell(row));
  if (row.failed) {
    const kind = el("span", { class: "chip bad" }, el("i", { "aria-hidden": "true" }), "Failed");
    const why = [el("b", {}, row.error?.kind ?? "error"), " ", el("bdi", {}, row.error?.message ?? "")];
    return el("tr", attributes, head, el("td", { colspan: COLUMNS.length - 1, class: "why" }, kind, " ", el("span", {}, why)));
  }
  const cells = COLUMNS.slice(1).map((column) => el("td", { class: cellClass(column) }, column.cell(row)));
  return el("tr", attributes, head, cells);
}

function cellClass(column) {
  return [`c-${column.id}`, column.number && "number", column.low && `low${column.low}`].filter(Boolean).join(" ");
}

function sorted(list, column, down) {
  const keyed = list.map((row) => [row.failed && column.id !== "name" ? null : column.key(row), row]);
  const sign = down ? -1 : 1;
  keyed.sort(([x, a], [y, b]) => {
    if (known(x) && known(y) && x !== y) return x < y ? -sign : sign;
    if (known(x) !== known(y)) return known(x) ? -1 : 1; // what has no value stands last either way
    return a.path < b.path ? -1 : 1;
  });
  return keyed.map(([, row]) => row);
}

function isWanted(row) {
  if (shown.grade === "failed" ? !row.failed : shown.grade && row.grade !== shown.grade) return false;
  if (shown.fault && weightOf(row, shown.fault) < PRESENT) return false;
  return shown.text.split(/\s+/).every((word) => row.words.includes(word));
}

/** Choose, sort and draw anew; `keepPage` where only the page was turned. */
function drawTable(keepPage = false) {
  const column = COLUMNS.find(({ id }) => id === shown.sort);
  shown.rows = sorted(rows.filter(isWanted), column, shown.down);
  const pages = Math.max(Math.ceil(shown.rows.length / PAGE_ROWS), 1);
  shown.page = keepPage ? clamp(shown.page, 0, pages - 1) : 0;
  drawRows(shown.page * PAGE_ROWS, PAGE_ROWS);
  for (const head of document.querySelectorAll("#videos thead th")) {
    const mine = head.dataset.sort === shown.sort;
    head.setAttribute("aria-sort", mine ? (shown.down ? "descending" : "ascending") : "none");
    if (!mine) head.removeAttribute("aria-sort");
  }
  for (const button of byId("grades").children) button.setAttribute("aria-pressed", String(button.dataset.grade === shown.grade));
  byId("fault").value = shown.fault;
  const all = shown.rows.length === rows.length;
  byId("count").textContent = all ? text.videos(rows.length) : `${text.count(shown.rows.length)} of ${text.videos(rows.length)}`;
  byId("where").textContent = `Page ${shown.page + 1} of ${pages}`;
  byId("earlier").disabled = shown.page === 0;
  byId("later").disabled = shown.page === pages - 1;
  byId("where").parentElement.hidden = pages === 1;
}

function drawRows(first, count) {
  const drawn = shown.rows.slice(first, first + count).map(drawRow);
  if (!drawn.length) drawn.push(el("tr", { class: "empty" }, el("td", { colspan: COLUMNS.length }, "No video fits the filter.")));
  document.querySelector("#videos tbody").replaceChildren(...drawn);
}

function sortBy(id) {
  shown.down = shown.sort === id ? !shown.down : false;
  shown.sort = id;
  drawTable();
}

function showOnly(change) {
  Object.assign(shown, change);
  drawTable();
}

function prepareTable() {
  const heads = COLUMNS.map((column) => {
    const content = column.key ? el("button", { type: "button", onclick: () => sortBy(column.id) }, column.label) : column.label;
    return el("th", { scope: "col", class: cellClass(column), "data-sort": column.key ? column.id : null }, content);
  });
  document.querySelector("#videos thead").append(el("tr", {}, heads));
  const failed = rows.length - scored.length;
  const given = grades.filter((grade) => scored.some((row) => row.grade === grade));
  for (const grade of ["", ...given, ...(failed ? ["failed"] : [])]) {
    const count = grade === "" ? rows.length : grade === "failed" ? failed : scored.filter((row) => row.grade === grade).length;
    const dot = grade && el("i", { class: `dot ${grade === "failed" ? "bad" : grade}`, "aria-hidden": "true" });
    const label = [dot || null, grade ? text.title(grade) : "All", el("small", {}, text.count(count))];
    byId("grades").append(el("button", { type: "button", "data-grade": grade, onclick: () => showOnly({ grade }) }, label));
  }
  byId("fault").append(el("option", { value: "" }, "Any fault"), ...faultKinds.map((kind) => el("option", { value: kind }, text.title(kind))));
  byId("fault").hidden = !faultKinds.length;
  byId("fault").addEventListener("change", (event) => showOnly({ fault: event.target.value }));
  byId("search").addEventListener("input", (event) => showOnly({ text: event.target.value.trim().toLowerCase() }));
  const turn = (step) => () => {
    shown.page += step;
    drawTable(true);
    byId("h-videos").scrollIntoView({ block: "start" });
  };
  byId("earlier").addEventListener("click", turn(-1));
  byId("later").addEventListener("click", turn(1));
  document.querySelector("#videos tbody").addEventListener("click", (event) => {
    const line = event.target.closest("tr[data-id]");
    if (line && !event.target.closest("a") && !String(getSelection())) location.hash = `v=${line.dataset.id}`;
  });
  addEventListener("beforeprint", () => drawRows(0, PRINT_ROWS));
  addEventListener("afterprint", () => drawTable(true));
}
