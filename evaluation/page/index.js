const { entries } = page;
const form = document.querySelector("#map form");
const field = (name) => form.elements.namedItem(name);
const ABSENT = "–";

function say(value) {
  if (value === undefined) return ABSENT;
  if (value === null) return "none";
  return typeof value === "boolean" ? (value ? "yes" : "no") : String(value);
}

// numbers by size, texts by letters, what is not there last
function order(a, b) {
  const [x, y] = [a, b].map((v) => v === undefined || v === null || v === "");
  if (x || y) return x - y;
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), "en", { numeric: true });
}

const names = [...new Set(entries.flatMap((entry) => Object.keys(entry.settings)))];
const valuesOf = (some) => Object.fromEntries(names.map((name) => [name,
  [...new Map(some.map((entry) => [say(entry.settings[name]), entry.settings[name]]))]]));
const told = (of, name) => of[name].filter(([text]) => text !== ABSENT);
const tellApart = (of) => names.filter((name) => told(of, name).length > 1);
const everywhere = valuesOf(entries);
const known = (name) => told(everywhere, name);
// a reference stands beside the others: it has a line of the table and no square of a map
const mapped = entries.filter((entry) => !entry.is_reference);
const values = valuesOf(mapped);
const differing = tellApart(values);
const figures = [...new Set(entries.flatMap((entry) => Object.keys(entry.figures)))];

function drawHead() {
  const scored = entries.filter((entry) => entry.value !== null).length;
  document.getElementById("summary").textContent = `${entries.length} results, ${scored} with a score`;
  document.getElementById("notes").append(...page.notes.map((note) => make("p", {}, note)));
  const same = names.filter((name) => known(name).length === 1);
  if (same.length) {
    document.getElementById("same").append(make("details", {}, make("summary", {},
      "Settings that are the same in all that have them"), table([], same.map((name) => [
      make("th", { scope: "row" }, name), make("td", {}, known(name)[0][0])]))));
  }
}

function link(entry, text) {
  return entry.report === null ? text : make("a", { href: entry.report }, text);
}

const scoredOf = (entry) => entry.members.filter((member) => member.value !== null);

// how many of the runs of a mean are there, and each with its value and its page
function listMembers(entry) {
  if (!entry.members.length) return "";
  return make("details", {},
    make("summary", {}, `${scoredOf(entry).length} of ${entry.members.length}`),
    ...entry.members.map((member) => make("div", {}, `${member.name}: `,
      member.value === null ? member.state : link(member, show(member.value)),
      member.interval ? make("span", { class: "quiet" }, ` ${interval(member.interval)}`) : null)));
}

// `of` is what a column sorts by, `text` what it shows
const COLUMNS = [
  { title: "name", of: (e) => e.name, text: (e) => link(e, e.name), tag: "th" },
  ...tellApart(everywhere).map((name) => ({ title: name, of: (e) => e.settings[name],
    text: (e) => say(e.settings[name]),
    is: known(name).every(([, value]) => typeof value === "number") ? "number" : null })),
  { title: "metric", of: (e) => e.metric, text: (e) => e.metric ?? "" },
  { title: "value", of: (e) => e.value, text: (e) => show(e.value), is: "number" },
  ...(entries.some((e) => e.members.length) ? [
    { title: "sd over seeds", of: (e) => e.deviation, text: (e) => show(e.deviation), is: "number" },
    { title: "seeds", of: (e) => scoredOf(e).length, text: listMembers }] : []),
  { title: "95 % interval", of: (e) => e.interval?.[0], text: (e) => interval(e.interval),
    is: "number" },
  { title: "examples", of: (e) => e.num_examples, text: (e) => say(e.num_examples ?? undefined),
    is: "number" },
  ...figures.map((name) => ({ title: name, of: (e) => e.figures[name],
    text: (e) => show(e.figures[name]), is: "number" })),
  { title: "state", of: (e) => e.state, text: (e) => make("div", {},
    make("span", { class: e.state === "failed" ? "failed" : null }, e.state),
    e.reason ? make("div", { class: "reason" }, e.reason) : null) },
];
let by = { column: null, down: false };

function drawTable() {
  const focused = document.activeElement?.textContent;
  const head = COLUMNS.map((column) => make("th", { scope: "col", class: column.is ?? null,
    "aria-sort": by.column === column ? (by.down ? "descending" : "ascending") : null },
  make("button", { type: "button", onclick: () => {
    // the highest score is what is looked for first
    const first = column.title === "value";
    by = { column, down: by.column === column ? !by.down : first };
    drawTable();
  } }, column.title)));
  const sorted = [...entries];
  if (by.column) {
    sorted.sort((a, b) => {
      const [x, y] = [by.column.of(a), by.column.of(b)];
      const is = [x, y].map((v) => v === undefined || v === null || v === "");
      return is[0] || is[1] || !by.down ? order(x, y) : order(y, x);
    });
  }
  const lines = sorted.map((entry) => COLUMNS.map((column) => make(column.tag ?? "td",
    { class: column.is ?? null, scope: column.tag ? "row" : null }, column.text(entry))));
  const drawn = scrollable(table(head, lines), "All results");
  const section = document.getElementById("all");
  section.querySelector(".scroll")?.remove();
  section.append(drawn);
  if (!focused) return;
  [...drawn.querySelectorAll("th button")].find((b) => b.textContent === focused)?.focus();
}

// a table wider than the page moves by the arrow keys too
function scrollable(box, label) {
  for (const [key, value] of Object.entries({ tabindex: "0", role: "region", "aria-label": label })) {
    box.setAttribute(key, value);
  }
  return box;
}

// The two settings that tell most results apart, with the fewest empty squares. Tasks have metrics
// of their own, so each has a map where two other settings differ.
function chooseAxes() {
  const others = differing.filter((name) => name !== "task");
  const from = others.length > 1 ? others : differing;
  const pairs = from.flatMap((a, place) => from.slice(place + 1).map((b) => [a, b]));
  const rated = pairs.map((pair) => {
    const apart = new Set(mapped.map((e) => JSON.stringify(pair.map((n) => say(e.settings[n])))));
    return { pair, told: apart.size,
      filled: apart.size / (values[pair[0]].length * values[pair[1]].length) };
  });
  rated.sort((a, b) => b.told - a.told || b.filled - a.filled);
  if (!rated.length) return [differing[0], ""];
  return rated[0].pair.sort((a, b) => values[a].length - values[b].length);
}

function measured(entry) {
  const name = field("colour").value;
  return name ? entry.figures[name] ?? null : entry.value;
}

// what one scale of colours is for: numbers of one metric of one task
const kindOf = (entry) => field("colour").value || `${entry.settings.task ?? ""} ${entry.metric}`;

function scales() {
  const found = {};
  for (const entry of mapped) {
    const value = measured(entry);
    if (value === null) continue;
    const scale = found[kindOf(entry)] ??= { low: value, high: value };
    scale.low = Math.min(scale.low, value);
    scale.high = Math.max(scale.high, value);
  }
  return found;
}

function spreadOf(entry) {
  if (!entry.members.length) return interval(entry.interval);
  const [some, all] = [scoredOf(entry).length, entry.members.length];
  const deviation = entry.deviation === null ? "" : `± ${show(entry.deviation)} sd, `;
  return `${deviation}${some < all ? `${some} of ${all}` : all} seeds`;
}

function drawSquare(own, scale) {
  if (!own.length) return make("td", { class: "none" }, "not there");
  const scored = own.filter((entry) => measured(entry) !== null);
  if (!scored.length) {
    return make("td", { class: "none", title: own[0].reason || null }, own[0].state);
  }
  const shares = scored.map((entry) => {
    const { low, high } = scale[kindOf(entry)];
    return high > low ? (measured(entry) - low) / (high - low) : 1;
  });
  const share = Math.max(...shares);
  const cell = make("td", { style: `--share: ${(5 + 45 * share).toFixed(1)}%` });
  for (const entry of scored) {
    const spread = field("colour").value ? "" : spreadOf(entry);
    cell.append(make("div", { title: entry.name }, link(entry, show(measured(entry))),
      spread ? make("span", { class: "interval" }, spread) : null));
  }
  return cell;
}

const MOST_PANELS = 48;

function drawMap() {
  const [across, down] = [field("across").value, field("down").value];
  const axes = [across, down].filter(Boolean);
  // a panel for each value of a setting that would put different results in one square
  const apart = [];
  const key = (entry, settings) => JSON.stringify(settings.map((name) => say(entry.settings[name])));
  const num = (settings) => new Set(mapped.map((entry) => key(entry, settings))).size;
  for (const name of differing.filter((other) => !axes.includes(other))) {
    if (num([...axes, ...apart, name]) > num([...axes, ...apart])) apart.push(name);
  }
  const groups = new Map();
  for (const entry of mapped) {
    const group = key(entry, apart);
    groups.set(group, [...groups.get(group) ?? [], entry]);
  }
  const scale = scales();
  const levels = (name) => name ? [...values[name]].sort(([, a], [, b]) => order(a, b))
    .map(([text]) => text) : [null];
  const is = (entry, name, text) => !name || say(entry.settings[name]) === text;
  const panels = [...groups.values()].slice(0, MOST_PANELS).map((own) => {
    const title = apart.map((name) => `${name} ${say(own[0].settings[name])}`).join(", ");
    const head = [make("th", { scope: "col" }, [down, across].filter(Boolean).join(" \\ ")),
      ...levels(across).map((text) => make("th", { scope: "col" }, text ?? ""))];
    const lines = levels(down).map((low) => [make("th", { scope: "row" }, low ?? ""),
      ...levels(across).map((high) => drawSquare(
        own.filter((entry) => is(entry, across, high) && is(entry, down, low)), scale))]);
    const box = scrollable(table(head, lines), `Heat map ${title}`);
    box.firstChild.className = "heat";
    return make("div", { class: "panel" }, title ? make("h3", {}, title) : null, box);
  });
  if (groups.size > MOST_PANELS) {
    panels.push(make("p", {}, `${groups.size - MOST_PANELS} more maps are left out; the table has all.`));
  }
  const legend = Object.entries(scale).map(([kind, { low, high }]) =>
    `${kind.trim()} ${show(low)} to ${show(high)}`);
  panels.push(make("p", { class: "legend quiet" }, `From light to dark: ${legend.join("; ")}.`));
  document.getElementById("panels").replaceChildren(...panels);
}

function prepareMap() {
  if (!differing.length || !mapped.some((entry) => entry.value !== null)) return;
  document.getElementById("map").hidden = false;
  const options = () => ["", ...differing].map((name) => make("option", { value: name }, name || "none"));
  field("across").append(...options());
  field("down").append(...options());
  field("colour").append(...["", ...figures].map((name) =>
    make("option", { value: name }, name || "score")));
  if (!figures.length) field("colour").parentElement.hidden = true;
  [field("across").value, field("down").value] = chooseAxes();
  form.addEventListener("input", (event) => {
    const other = field(event.target.name === "across" ? "down" : "across");
    if (event.target.name !== "colour" && other.value === event.target.value) other.value = "";
    drawMap();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  drawMap();
}

drawHead();
prepareMap();
drawTable();
