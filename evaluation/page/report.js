const { runs, rows, metric } = page;
const STEP = 50;
const HALF = page.best / 2;
const OUTCOMES = { rose: "Fixed", fell: "Broken", right: "Both right", wrong: "Both wrong" };
const TITLES = {
  rose: "the second scores higher", fell: "the second scores lower",
  right: `both score the same, at least ${show(HALF)}`, wrong: `both score the same, under ${show(HALF)}`,
};
const form = document.getElementById("filters");
const field = (name) => form.elements.namedItem(name);
const haystacks = rows.map((row) => [row.id, row.question, ...row.references.map(([text]) => text),
  ...row.answers.map((answer) => answer.prediction)].join("\n").toLowerCase());
const EMPTY = { text: "", low: "", high: "", first: "0", second: String(runs.length - 1),
  sort: "order", outcome: "", slices: [], current: null };
let state = { ...EMPTY };
let found = [];
let shown = 0;

function outcome(row, first = Number(state.first), second = Number(state.second)) {
  const [a, b] = [row.answers[first].score, row.answers[second].score];
  if (a === null || b === null) return "";
  if (a !== b) return b > a ? "rose" : "fell";
  return a >= HALF ? "right" : "wrong";
}

function tone(score) {
  if (score === null) return "score";
  return `score ${score >= page.best ? "good" : score > 0 ? "part" : "bad"}`;
}

let slicesBy = { key: runs.length > 1 ? "difference" : "mean", down: false };

function drawSlices() {
  const section = document.getElementById("slices");
  section.replaceChildren();
  if (!page.slices.length) return;
  const columns = [["tag", "sliced by"], ["kind", "slice"], ["n", "examples"]];
  runs.forEach((run, place) => columns.push([`mean${place}`, run.name], [null, "95 % interval"]));
  if (runs.length > 1) {
    columns.push(["difference", `${runs.at(-1).name} - ${runs[0].name}`], [null, "95 % interval"]);
  }
  const value = (slice, key) => key.startsWith("mean") ? slice.means[Number(key.slice(4) || 0)]
    : slice[key];
  const head = columns.map(([key, text], place) => make("th", { scope: "col",
    class: place > 1 ? "number" : null,
    "aria-sort": key && key === slicesBy.key ? (slicesBy.down ? "descending" : "ascending") : null },
  key ? make("button", { type: "button", onclick: () => {
    slicesBy = { key, down: slicesBy.key === key && !slicesBy.down };
    keepFocus(drawSlices);
  } }, text) : text));
  const order = [...page.slices].sort((a, b) => {
    const [x, y] = [value(a, slicesBy.key), value(b, slicesBy.key)];
    return (x > y ? 1 : x < y ? -1 : 0) * (slicesBy.down ? -1 : 1);
  });
  const lines = order.map((slice) => {
    const key = `${slice.tag}=${slice.kind}`;
    const cells = [make("td", {}, slice.tag), make("td", {}, make("button", { type: "button",
      "aria-pressed": String(state.slices.includes(key)), onclick: () => toggleSlice(key) },
    slice.kind)), number(String(slice.n))];
    slice.means.forEach((mean, place) =>
      cells.push(number(show(mean)), number(interval(slice.intervals[place]))));
    if (runs.length > 1) {
      cells.push(number(signed(slice.difference)),
        number(interval(slice.difference_interval, signed)));
    }
    return cells;
  });
  section.append(make("h2", {}, "Slices"), table(head, lines));
}

function toggleSlice(key) {
  const has = state.slices.includes(key);
  change({ slices: has ? state.slices.filter((slice) => slice !== key) : [...state.slices, key] });
}

function drawOutcomes() {
  const place = document.getElementById("outcomes");
  place.replaceChildren();
  if (runs.length < 2) return;
  const counts = { rose: 0, fell: 0, right: 0, wrong: 0, "": 0 };
  for (const row of rows) counts[outcome(row)] += 1;
  for (const [key, text] of Object.entries(OUTCOMES)) {
    place.append(make("button", { type: "button", title: TITLES[key], "data-outcome": key,
      "aria-pressed": String(state.outcome === key),
      onclick: () => change({ outcome: state.outcome === key ? "" : key }) },
    `${text} ${counts[key]}`));
  }
}

const SORTS = { order: "as in the split", low: "lowest score first", high: "highest score first",
  fall: "greatest fall first", rise: "greatest rise first" };

function sorted(places) {
  const last = Number(state.second);
  const score = (place, absent) => rows[place].answers[last].score ?? absent; // comes last
  const rise = (place) => (rows[place].answers[last].score ?? 0)
    - (rows[place].answers[Number(state.first)].score ?? 0);
  const keys = { low: (p) => score(p, Infinity), high: (p) => -score(p, -Infinity), fall: rise, rise: (p) => -rise(p) };
  const key = keys[state.sort];
  return key ? places.sort((a, b) => key(a) - key(b) || a - b) : places;
}

function matches(place) {
  const row = rows[place];
  if (state.text && !haystacks[place].includes(state.text.toLowerCase())) return false;
  const score = row.answers[Number(state.second)].score;
  if (state.low !== "" && !(score !== null && score >= Number(state.low))) return false;
  if (state.high !== "" && !(score !== null && score <= Number(state.high))) return false;
  if (state.outcome && outcome(row) !== state.outcome) return false;
  return state.slices.every((slice) => {
    const cut = slice.indexOf("=");
    return (row.tags[slice.slice(0, cut)] ?? []).includes(slice.slice(cut + 1));
  });
}

function drawAnswer(run, answer) {
  const list = make("dl", {}, make("dt", {}, runs.length > 1 ? run.name : "Prediction"),
    make("dd", {}, said(answer.prediction), " ",
      make("span", { class: tone(answer.score) }, show(answer.score))));
  const more = [];
  if (answer.raw !== answer.prediction) more.push("as generated: ", said(answer.raw), "\n");
  more.push(answer.working.join("\n"));
  if (more.some(Boolean)) list.append(make("dt", {}, "Scoring"), make("dd", {}, ...more));
  return list;
}

function drawImage(row) {
  if (row.image === null && row.file === null) return make("div", { class: "quiet" }, "no image");
  const source = row.image === null ? row.file : page.images[row.image];
  const image = make("img", { src: source, alt: `Image of example ${row.id}`, loading: "lazy",
    onload: () => { if (image.naturalWidth <= 96) image.className = "small"; } });
  return make("div", {}, row.file === null ? image
    : make("a", { href: row.file, title: "the original file" }, image));
}

function drawCard(place) {
  const row = rows[place];
  const tags = Object.entries(row.tags).flatMap(([tag, kinds]) =>
    kinds.map((kind) => make("span", {}, `${tag}: ${kind}`)));
  const prompts = [...new Set(row.answers.map((answer) => answer.prompt).filter(Boolean))];
  const text = make("div", {}, make("h3", {}, said(row.question || `Example ${row.id}`)),
    ...row.answers.map((answer, number) => drawAnswer(runs[number], answer)),
    drawReferences(row, "none"),
    make("div", { class: "tags" }, make("span", {}, `id: ${row.id}`), ...tags),
    prompts.length ? make("details", {}, make("summary", {}, "Prompt as sent"),
      ...prompts.map((prompt) => make("pre", {}, prompt))) : null,
    ...runs.filter((run) => run.provenance.command).map((run) => copyButton(run, row.id)));
  return make("li", { "data-place": place, tabindex: "-1" }, drawImage(row), text);
}

function drawMore() {
  const next = found.slice(shown, shown + STEP);
  document.getElementById("cards").append(...next.map(drawCard));
  shown += next.length;
  document.getElementById("rest").hidden = shown >= found.length;
  document.getElementById("shown").textContent = `The first ${shown} of ${found.length} are shown.`;
}

function drawExamples() {
  found = sorted(rows.map((_, place) => place).filter(matches));
  const chosen = document.getElementById("chosen");
  chosen.replaceChildren(make("span", { id: "count" }, `${found.length} of ${rows.length} examples`),
    ...state.slices.map((slice) => make("button", { type: "button", title: "remove this filter",
      onclick: () => toggleSlice(slice) }, `${slice} ×`)));
  document.getElementById("cards").replaceChildren();
  shown = 0;
  drawMore();
}

function drawCounts() {
  const section = document.getElementById("answers");
  const columns = [["Most frequent references", page.frequent_references],
    ...runs.map((run) => [`Most frequent answers, ${run.name}`, run.frequent])];
  section.append(make("h2", {}, "Answers and references"), make("div", { class: "columns" },
    ...columns.filter(([, counts]) => counts.length).map(([title, counts]) => make("div", {},
      make("h3", {}, title), table([], counts.map(([text, n]) => [number(String(n)),
        make("td", {}, said(text))]))))));
  const lengths = [["References", page.reference_lengths],
    ...runs.map((run) => [run.name, run.lengths])];
  section.append(make("h2", {}, "Length in words"), make("div", { class: "columns" },
    ...lengths.filter(([, counts]) => counts.length).map(([title, counts]) => {
      const most = Math.max(...counts.map(([, n]) => n));
      return make("div", {}, make("h3", {}, title), table([], counts.map(([words, n]) => [
        number(words), make("td", {}, make("span", { class: "bar", role: "presentation",
          style: `width:${Math.round(120 * n / most)}px` }), String(n))])));
    })));
}

function drawProvenance() {
  const section = document.getElementById("provenance");
  section.append(make("h2", {}, "Provenance"), ...runs.map((run) => make("details", {},
    make("summary", {}, `${describe(run)}, ${run.folder}`),
    make("pre", {}, JSON.stringify(run.provenance, null, 2)))));
}

function change(news) {
  state = { ...state, ...news };
  const words = new URLSearchParams();
  for (const key of Object.keys(EMPTY)) {
    if (key === "slices") state.slices.forEach((slice) => words.append("slice", slice));
    else if (state[key] !== EMPTY[key]) words.set(key, state[key]);
  }
  history.replaceState(null, "", `#${words}`);
  draw();
}

function readState() {
  const words = new URLSearchParams(location.hash.slice(1));
  state = { ...EMPTY, slices: words.getAll("slice") };
  for (const key of Object.keys(EMPTY)) {
    if (key !== "slices" && words.has(key)) state[key] = words.get(key);
  }
  for (const key of ["first", "second"]) if (!runs[Number(state[key])]) state[key] = EMPTY[key];
  if (!(state.sort in SORTS)) state.sort = EMPTY.sort;
  if (!(state.outcome in OUTCOMES)) state.outcome = "";
}

// a button that is drawn anew keeps the focus, or the next key would begin at the top
function keepFocus(drawing) {
  const button = document.activeElement;
  const place = button.closest("#slices, #outcomes, #chosen");
  const position = place ? [...place.querySelectorAll("button")].indexOf(button) : 0;
  drawing();
  const buttons = place?.querySelectorAll("button") ?? [];
  buttons[Math.min(position, buttons.length - 1)]?.focus({ preventScroll: true });
}

function draw() {
  for (const name of ["text", "low", "high", "first", "second", "sort"]) {
    if (field(name).value !== state[name]) field(name).value = state[name];
  }
  keepFocus(() => {
    drawOutcomes();
    drawSlices();
    drawExamples();
  });
  if (state.current !== null) select(found.indexOf(Number(state.current)), false);
}

function select(position, says = true) {
  if (position < 0 || position >= found.length) return;
  while (position >= shown) drawMore();
  const cards = document.getElementById("cards").children;
  for (const card of cards) card.classList.toggle("current", card === cards[position]);
  state.current = String(found[position]);
  if (!says) return;
  const words = new URLSearchParams(location.hash.slice(1));
  words.set("current", state.current);
  history.replaceState(null, "", `#${words}`);
  cards[position].focus({ preventScroll: true });
  cards[position].scrollIntoView({ block: "nearest" });
}

function save(name, kind, text) {
  const link = make("a", { download: name,
    href: URL.createObjectURL(new Blob([text], { type: kind })) });
  link.click();
  URL.revokeObjectURL(link.href);
}

function records() {
  return found.map((place) => {
    const row = rows[place];
    const record = { id: row.id, question: row.question,
      references: row.references.flatMap(([text, n]) => Array(n).fill(text)) };
    runs.forEach((run, number) => {
      const mark = runs.length > 1 ? `_${run.name}` : "";
      const answer = row.answers[number];
      Object.assign(record, { [`prediction${mark}`]: answer.prediction,
        [`raw_prediction${mark}`]: answer.raw, [`score${mark}`]: answer.score });
    });
    return record;
  });
}

function asCsv() {
  const all = records();
  const quote = (value) => `"${String(value ?? "").replaceAll('"', '""')}"`;
  const names = Object.keys(all[0] ?? { id: null });
  const lines = all.map((record) => names.map((name) => quote(name === "references"
    ? JSON.stringify(record[name]) : record[name])));
  return [names.map(quote), ...lines].map((cells) => cells.join(",")).join("\r\n") + "\r\n";
}

for (const name of ["first", "second"]) {
  field(name).append(...runs.map((run, place) => make("option", { value: place }, run.name)));
}
for (const [key, text] of Object.entries(SORTS)) {
  if (runs.length > 1 || !["fall", "rise"].includes(key)) {
    field("sort").append(make("option", { value: key }, text));
  }
}
if (runs.length < 2) document.querySelectorAll(".pair").forEach((label) => { label.hidden = true; });
form.addEventListener("input", (event) => {
  if (event.target.name in EMPTY) change({ [event.target.name]: event.target.value });
});
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", (event) => { event.preventDefault(); change({ ...EMPTY }); });
document.getElementById("more").addEventListener("click", drawMore);
document.getElementById("json").addEventListener("click", () =>
  save("examples.json", "application/json", JSON.stringify(records(), null, 1)));
document.getElementById("csv").addEventListener("click", () =>
  save("examples.csv", "text/csv", asCsv()));
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey
    || ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName)) return;
  const now = state.current === null ? -1 : found.indexOf(Number(state.current));
  if (event.key === "j") select(now + 1);
  else if (event.key === "k") select(Math.max(0, now - 1));
  else if (event.key === "/") { event.preventDefault(); field("text").focus(); }
});
window.addEventListener("hashchange", () => { readState(); draw(); });
drawHeadline();
drawCounts();
drawProvenance();
readState();
draw();
