{ // the training behind each run: its curves and the examples that were watched
  const [WIDTH, HEIGHT] = [400, 240];
  const FRAME = { left: 56, top: 14, right: 388, bottom: 196 };

  const shape = (name, attributes, text = "") => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.textContent = text;
    return element;
  };

  const ticks = (low, high) => { // three to seven round numbers that span a range
    if (low === high) return [low];
    const rough = (high - low) / 4;
    const power = 10 ** Math.floor(Math.log10(rough));
    const [step] = [1, 2, 5, 10].map((factor) => factor * power)
      .sort((a, b) => Math.abs(a - rough) - Math.abs(b - rough));
    const found = [];
    for (let n = Math.floor(low / step); n <= Math.ceil(high / step); n += 1) found.push(n * step);
    return found;
  };

  // points: [{ step, value, interval, says, mark }]; `mark` is written beside the point
  const panel = (title, points, { joined, says, dots }) => {
    const steps = points.map((point) => point.step);
    const values = points.flatMap((point) => [point.value, ...(point.interval ?? [])]);
    const last = Math.max(...steps);
    const rungs = ticks(Math.min(...values), Math.max(...values));
    const [low, high] = [rungs[0], rungs.at(-1)];
    const x = (step) => FRAME.left + step / last * (FRAME.right - FRAME.left);
    const y = (value) => FRAME.bottom - (value - low) / ((high - low) || 1)
      * (FRAME.bottom - FRAME.top);
    const svg = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": says });
    for (const rung of rungs) {
      svg.append(shape("line", { class: "grid", x1: FRAME.left, x2: FRAME.right, y1: y(rung),
        y2: y(rung) }),
      shape("text", { x: FRAME.left - 6, y: y(rung) + 4, "text-anchor": "end" }, show(rung)));
    }
    for (const step of ticks(0, last)) {
      if (!Number.isInteger(step) || step > last) continue;
      svg.append(shape("text", { x: x(step), y: FRAME.bottom + 16, "text-anchor": "middle" }, step));
    }
    svg.append(shape("polyline", { class: "axis",
      points: `${FRAME.left},${FRAME.top} ${FRAME.left},${FRAME.bottom} ${FRAME.right},${FRAME.bottom}` }),
    shape("text", { x: (FRAME.left + FRAME.right) / 2, y: HEIGHT - 6, "text-anchor": "middle" },
      "optimiser step"));
    for (const point of points.filter((one) => one.interval)) {
      svg.append(shape("line", { class: "interval", x1: x(point.step), x2: x(point.step),
        y1: y(point.interval[0]), y2: y(point.interval[1]) }));
    }
    svg.append(shape("polyline", { class: "line",
      points: joined.map((point) => `${x(point.step)},${y(point.value)}`).join(" ") }));
    for (const point of points.filter((one) => dots || one.mark)) {
      const dot = shape("circle", { class: point.mark ? "dot mark" : "dot", cx: x(point.step),
        cy: y(point.value), r: point.mark ? 5 : 3.5 });
      dot.append(shape("title", {}, `step ${point.step}: ${show(point.value)}`
        + (point.interval ? `, 95 % interval ${interval(point.interval)}` : "")));
      svg.append(dot);
      if (point.mark) {
        const right = x(point.step) > (FRAME.left + FRAME.right) / 2;
        svg.append(shape("text", { class: "mark", x: x(point.step) + (right ? -9 : 9),
          y: Math.max(FRAME.top + 2, y(point.value) - 7), "text-anchor": right ? "end" : "start" },
        `${point.mark} ${show(point.value)}`));
      }
    }
    return make("figure", {}, make("figcaption", {}, title), svg);
  };

  const line = (title, pairs) => {
    const points = pairs.map(([step, value]) => ({ step, value }));
    const [start, end] = [points[0], points.at(-1)];
    const says = `${title}: ${show(start.value)} at step ${start.step}, ${show(end.value)} `
      + `at step ${end.step}`;
    return panel(title, points, { joined: points, says, dots: false });
  };

  const scores = (curve, best) => {
    const points = curve.points.map((point) => ({ ...point,
      mark: point.step === best ? "best" : "" }));
    const says = `${curve.name}: ${points.map((point) =>
      `${point.mark} ${show(point.value)} at step ${point.step}`.trim()).join(", ")}`;
    return panel(`${curve.name}, 0 to ${show(curve.best)}, with 95 % interval`, points,
      { joined: points, says, dots: true });
  };

  const figures = (training) => {
    const lines = training.scores.flatMap((curve) => [...curve.points.map((point) => [point,
      point.step === training.best_step ? "best" : ""]), [curve.final, "at the end"]]
      .filter(([point]) => point).map(([point, mark]) => [
        make("th", { scope: "row" }, curve.name), number(String(point.step)),
        number(show(point.value)), number(interval(point.interval)), make("td", {}, mark)]));
    const head = ["metric", "step", "value", "95 % interval", ""].map((text, place) =>
      make("th", { scope: "col", class: place % 4 ? "number" : null }, text));
    return make("details", {}, make("summary", {}, "Scores as a table"), table(head, lines));
  };

  const example = (training, one) => {
    const source = one.image === null ? one.file : page.images[one.image];
    const image = make("img", { alt: `Image of example ${one.id}`, loading: "lazy",
      onload: () => { if (image.naturalWidth <= 96) image.className = "small"; } });
    if (source !== null) image.src = source;
    const cells = one.answers.map((answer) => answer === null ? make("td", { class: "quiet" }, "–")
      : make("td", {}, said(answer[0]), " ",
        make("span", { class: tone(answer[1]) }, answer[1] === null ? "" : show(answer[1]))));
    const text = make("div", {}, make("h3", {}, said(one.question || `Example ${one.id}`)),
      drawReferences(one, "withheld"),
      table(training.columns.map((name) => make("th", { scope: "col" }, name)), [cells]));
    return make("li", {}, source === null ? make("div", { class: "quiet" }, "no image") : image, text);
  };

  const section = document.getElementById("training");
  for (const training of page.trainings) {
    const curves = training.curves;
    section.append(make("h2", {}, runs.length > 1 ? `Training of ${training.name}` : "Training"));
    if (curves) {
      const lines = [["loss (nats)", curves.loss], ["learning rate", curves.learning_rate],
        ["gradient norm, before clipping", curves.gradient_norm]].filter(([, pairs]) => pairs.length);
      section.append(make("div", { class: "curves" },
        ...curves.scores.map((curve) => scores(curve, curves.best_step)),
        ...lines.map(([title, pairs]) => line(title, pairs))));
    }
    for (const note of training.notes) section.append(make("p", { class: "quiet" }, note));
    if (training.scores.length) section.append(figures(training));
    if (training.watched.length && training.columns.length) {
      section.append(make("details", { open: "" }, make("summary", {},
        `The same ${training.watched.length} examples at each scoring`),
      make("ol", { class: "watched" }, ...training.watched.map((one) => example(training, one)))));
    }
  }
}
