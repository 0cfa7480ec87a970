// The figures at the top, and the command that answers one example again.

function scoreCells(value, pair, count) {
  return [number(show(value)), number(interval(pair)), number(count)];
}

function describe(run) {
  return run.model ? `${run.name}: ${run.model}` : run.name;
}

function runLines(run) {
  const levels = run.folder.split(/(?<=[/\\])/); // a line of a long path ends behind one
  const cells = [make("th", { scope: "row" }, describe(run), " ",
    make("span", { class: "folder" }, ...levels.flatMap((level) => [level, make("wbr")]))),
  ...scoreCells(run.value, run.interval, String(run.num_examples))];
  const change = run.change;
  if (runs.length > 1) {
    cells.push(...(change
      ? [signed(change.difference), interval(change.interval, signed), ...[change.num_rose,
        change.num_fell, change.num_stayed].map(String)]
      : ["", "", "", "", ""]).map(number));
  }
  const beside = run.baselines.map((baseline) => [
    make("th", { scope: "row", class: "beside" }, baseline.name, " ",
      make("span", { class: "folder" }, baseline.about)),
    ...scoreCells(baseline.value, baseline.interval, "")]);
  return [cells, ...beside];
}

function figureCell(run, name, figures) {
  const value = figures[name] ?? null;
  const reason = value === null ? run.reasons[name] : undefined;
  return reason ? make("td", { class: "reason" }, `not available: ${reason}`) : number(show(value));
}

// a figure stands in one line, though several entries of metrics.json may hold it
function figureLines(title, groups, shown) {
  const names = [...new Set(groups.flatMap((figures) => Object.keys(figures)))]
    .filter((name) => !shown.has(name) && !page.repeated.includes(name));
  names.forEach((name) => shown.add(name));
  const heading = title && names.length
    ? [[make("th", { scope: "rowgroup", colspan: runs.length + 1 }, title)]] : [];
  return [...heading, ...names.map((name) => [make("th", { scope: "row" }, name),
    ...groups.map((figures, place) => figureCell(runs[place], name, figures))])];
}

function figureTable(lines) {
  return table([make("th"), ...runs.map((run) =>
    make("th", { scope: "col", class: "number" }, run.name))], lines);
}

function drawHeadline() {
  const head = ["", metric, "95 % interval", "examples"].map((text, place) =>
    make("th", { scope: "col", class: place ? "number" : null }, text));
  if (runs.length > 1) {
    for (const text of ["difference to A", "95 % interval", "rose", "fell", "stayed"]) {
      head.push(make("th", { scope: "col", class: "number" }, text));
    }
  }
  const section = document.getElementById("headline");
  section.append(table(head, runs.flatMap(runLines)));
  const isOnLonger = (note) => page.longer.includes(note.split(" ")[0]) &&
    !note.includes(page.metric);
  const addNotes = (place, notes) =>
    place.append(...notes.map((note) => make("p", { class: "note" }, note)));
  addNotes(section, page.notes.filter((note) => !isOnLonger(note)));
  const extra = [...new Set(runs.flatMap((run) => Object.keys(run.extra)))];
  const own = runs.map((run) => run.metrics);
  const shown = new Set(page.longer);
  const lines = [...figureLines("", own, shown),
    ...extra.flatMap((group) => figureLines(`${group}, beside the task's own figures`,
      runs.map((run) => run.extra[group] ?? {}), shown))];
  if (lines.length > 1 || runs.some((run) => Object.keys(run.reasons).length)) {
    const open = lines.length > 8 ? null : ""; // more would push the examples off the screen
    section.append(make("details", { id: "figures", open },
      make("summary", {}, page.longer.length ? "Figures" : "All figures"), figureTable(lines)));
  }
  if (page.longer.length) {
    const folded = make("details", { id: "longer" },
      make("summary", {}, "Figures made for longer texts"),
      figureTable(figureLines("", own, new Set(own.flatMap(Object.keys)
        .filter((name) => !page.longer.includes(name))))));
    addNotes(folded, page.notes.filter(isOnLonger));
    section.append(folded);
  }
  document.getElementById("summary").textContent =
    `${rows.length} examples on this page, ${page.images.length} images inside`;
}

function drawReferences(row, absent) {
  const lines = row.references.map(([text, n]) =>
    make("div", {}, said(text), n > 1 ? ` ×${n}` : ""));
  return make("dl", {}, make("dt", {}, "References"),
    make("dd", {}, ...(lines.length ? lines : [absent])));
}

function quoted(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'"'"'`)}'`;
}

// the result goes beside the evaluation, which stays as it is
function commandFor(run, id) {
  return `${run.provenance.command} --output_dir ${quoted(`${run.folder}_example`)} `
    + `--ids ${quoted(String(id))}`;
}

async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = make("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

function copyButton(run, id) {
  const text = commandFor(run, id);
  const label = `copy command${runs.length > 1 ? ` ${run.name}` : ""}`;
  const button = make("button", { type: "button", class: "copy", title: text,
    onclick: () => copy(text).then(() => { button.textContent = "copied"; },
      () => { button.replaceWith(make("pre", {}, text)); }) }, label);
  return button;
}
