// One line chart: curves of one or several runs over all stages, values under the pointer.

const CHART = { width: 460, height: 220, left: 52, right: 12, top: 10, bottom: 34 };

// The curves of a panel: a line for each of its metrics in each run that has points of it.
function lines(panel) {
  const several = DATA.runs.length > 1;
  const found = [];
  panel.series.forEach((series, at) => DATA.runs.forEach((run, number) => {
    const points = run.curves[series.metric];
    if (!points) return;
    found.push({
      run: number,
      label: several ? `${run.name} ${series.label}` : series.label,
      colour: (several ? number : at) % 7,
      dash: several && at > 0 ? `${2 + 2 * at} ${3 + at}` : null,
      held: series.metric.startsWith("eval/"),
      steps: points[0],
      values: points[1],
      band: series.band && run.curves[series.band] ? run.curves[series.band] : null,
    });
  }));
  return found;
}

// Exponential moving average within each stage, corrected at its beginning.
function smoothed(line, weight) {
  if (weight === 0 || line.held) return line.values;
  const starts = DATA.runs[line.run].stages.map((stage) => stage.offset);
  let [mean, mass, stage] = [0, 0, -1];
  return line.values.map((value, at) => {
    const own = starts.filter((start) => start < line.steps[at]).length;
    if (own !== stage) [mean, mass, stage] = [0, 0, own];
    mean = weight * mean + (1 - weight) * value;
    mass = weight * mass + (1 - weight);
    return mean / mass;
  });
}

// The deviations at a line's steps.
function deviations(line) {
  const known = new Map(line.band[0].map((step, at) => [step, line.band[1][at]]));
  return line.steps.map((step) => known.get(step) ?? 0);
}

function range(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) [low, high] = [Math.min(low, value), Math.max(high, value)];
  if (low > high) return [0, 1];
  if (low === high) return [low - (Math.abs(low) * 0.1 || 1), high + (Math.abs(high) * 0.1 || 1)];
  return [low, high];
}

// Round values across a range, three to six of them.
function ticks(low, high) {
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const spacing = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((one) => one >= rough) ?? power * 10;
  const out = [];
  for (let at = Math.floor(low / spacing); at <= Math.ceil(high / spacing); at += 1) out.push(at * spacing);
  return out;
}

function tickLabel(value, spacing) {
  if (Math.abs(value) < spacing / 1000) return "0";
  // A nearly constant curve far from zero: its digits, not its size.
  if (spacing < 1e-3 && Math.abs(value) > 100 * spacing) return value.toPrecision(5);
  if (spacing < 1e-3 || Math.abs(value) >= 1e6) return value.toExponential(1);
  let decimals = Math.max(0, -Math.floor(Math.log10(spacing)));
  if ((spacing * 10 ** decimals) % 1 > 1e-6) decimals += 1;
  return value.toFixed(decimals);
}

// `look`: smoothing weight, log scale, bands.
function chart(panel, look) {
  const all = lines(panel);
  const hidden = new Set();
  const figure = el("figure", { class: "chart", "data-title": panel.title });
  const draw = () => {
    const shown = all.filter((_, at) => !hidden.has(at));
    const plot = new Plot(shown, look);
    const legend = all.map((line, at) => el("button", {
      class: `key c${line.colour}${hidden.has(at) ? " off" : ""}`,
      "aria-pressed": String(!hidden.has(at)),
      click: () => {
        if (hidden.has(at)) hidden.delete(at);
        else hidden.add(at);
        draw();
      },
    }, line.label, " ", el("b", {}, short(line.values.at(-1)))));
    refill(figure, el("figcaption", {}, panel.title), plot.frame(), el("p", { class: "legend" }, legend));
  };
  draw();
  return figure;
}

class Plot {
  constructor(shown, look) {
    this.look = look;
    this.lines = shown.map((line) => ({ ...line, smooth: smoothed(line, look.smoothing), spread: line.band && look.bands ? deviations(line) : null }));
    const positive = shown.flatMap((line) => line.values).filter((value) => value > 0);
    this.log = look.log && positive.length > 0;
    const kept = (value) => Number.isFinite(value) && (!this.log || value > 0);
    const edges = this.lines.flatMap((line) => [
      ...line.values,
      ...(line.spread ? line.smooth.flatMap((value, at) => [value - line.spread[at], value + line.spread[at]]) : []),
    ]);
    const scale = (value) => (this.log ? Math.log10(value) : value);
    const [low, high] = range(edges.filter(kept).map(scale));
    this.ticks = ticks(low, high);
    this.y = [Math.min(low, this.ticks[0]), Math.max(high, this.ticks.at(-1))];
    this.x = range(shown.flatMap((line) => [line.steps[0], line.steps.at(-1)]));
    this.scale = scale;
    this.kept = kept;
  }

  left(step) {
    return CHART.left + ((step - this.x[0]) / (this.x[1] - this.x[0])) * (CHART.width - CHART.left - CHART.right);
  }

  down(value) {
    const share = (this.scale(value) - this.y[0]) / (this.y[1] - this.y[0]);
    return CHART.height - CHART.bottom - Math.max(0, Math.min(1, share)) * (CHART.height - CHART.top - CHART.bottom);
  }

  // The drawing with what follows the pointer.
  frame() {
    const cursor = svgEl("line", { class: "cursor", y1: CHART.top, y2: CHART.height - CHART.bottom });
    const told = el("div", { class: "told" });
    const svg = svgEl("svg", { viewBox: `0 0 ${CHART.width} ${CHART.height}`, role: "img" },
      this.grid(), this.stages(), this.lines.map((line) => this.band(line)), this.lines.map((line) => this.marks(line)), cursor);
    const box = el("div", { class: "plot" }, svg, told);
    const move = (event) => {
      const bounds = svg.getBoundingClientRect();
      const at = ((event.clientX - bounds.left) / bounds.width) * CHART.width;
      const step = this.x[0] + ((at - CHART.left) / (CHART.width - CHART.left - CHART.right)) * (this.x[1] - this.x[0]);
      this.tell(step, cursor, told);
    };
    svg.addEventListener("pointermove", move);
    svg.addEventListener("pointerdown", move);
    box.addEventListener("pointerleave", () => box.classList.remove("on"));
    svg.addEventListener("pointerenter", () => box.classList.add("on"));
    return box;
  }

  grid() {
    const spacing = this.ticks[1] - this.ticks[0];
    const label = (tick) => (this.log ? short(10 ** tick) : tickLabel(tick, spacing));
    return this.ticks.map((tick) => {
      const y = this.down(this.log ? 10 ** tick : tick);
      return [
        svgEl("line", { class: "grid", x1: CHART.left, x2: CHART.width - CHART.right, y1: y, y2: y }),
        svgEl("text", { x: CHART.left - 6, y: y + 3.5, "text-anchor": "end" }, label(tick)),
      ];
    });
  }

  // Boundaries of the first run's stages, and their names.
  stages() {
    const run = DATA.runs[this.lines[0]?.run ?? 0];
    return run.stages.map((stage) => {
      const [from, to] = [Math.max(stage.offset, this.x[0]), Math.min(stage.offset + stage.steps, this.x[1])];
      if (to < from || stage.steps === 0) return null;
      const [left, right] = [this.left(from), this.left(to)];
      return [
        stage.offset > this.x[0] && svgEl("line", { class: "boundary", x1: left, x2: left, y1: CHART.top, y2: CHART.height - CHART.bottom }),
        right - left > 90 && svgEl("text", { x: left + 3, y: CHART.height - 19 }, String(Math.round(from - stage.offset))),
        right - left > 30 && svgEl("text", { x: right - 3, y: CHART.height - 19, "text-anchor": "end" }, String(Math.round(to - stage.offset))),
        right - left > 16 && svgEl("text", { class: "stage", x: (left + right) / 2, y: CHART.height - 6, "text-anchor": "middle" }, stage.name),
      ];
    });
  }

  band(line) {
    if (!line.spread) return null;
    const edge = (sign) => line.steps.map((step, at) => `${this.left(step).toFixed(1)},${this.down(Math.max(line.smooth[at] + sign * line.spread[at], this.log ? 1e-12 : -Infinity)).toFixed(1)}`);
    return svgEl("polygon", { class: `band f${line.colour}`, points: [...edge(1), ...edge(-1).reverse()].join(" ") });
  }

  marks(line) {
    const path = (values) => {
      const points = line.steps.map((step, at) => [step, values[at]]).filter(([, value]) => this.kept(value));
      return points.map(([step, value]) => `${this.left(step).toFixed(1)},${this.down(value).toFixed(1)}`).join(" ");
    };
    const dash = line.dash ?? (line.held ? "4 4" : null);
    const dots = line.held || line.steps.length === 1;
    return [
      this.look.smoothing > 0 && !line.held && svgEl("polyline", { class: `raw s${line.colour}`, points: path(line.values) }),
      svgEl("polyline", { class: `s${line.colour}`, "stroke-dasharray": dash, points: path(line.smooth) }),
      dots && line.steps.map((step, at) => this.kept(line.values[at]) &&
        svgEl("circle", { class: `f${line.colour}`, cx: this.left(step), cy: this.down(line.values[at]), r: 3 })),
    ];
  }

  // Each line's value nearest to a step.
  tell(step, cursor, told) {
    const nearest = (line) => {
      let best = 0;
      line.steps.forEach((one, at) => {
        if (Math.abs(one - step) < Math.abs(line.steps[best] - step)) best = at;
      });
      return best;
    };
    const rows = this.lines.map((line) => {
      const at = nearest(line);
      const spread = line.spread ? ` ± ${short(line.spread[at])}` : "";
      return { line, step: line.steps[at], text: short(line.smooth[at]) + spread };
    });
    if (rows.length === 0) return;
    const at = rows[0].step;
    cursor.setAttribute("x1", this.left(at));
    cursor.setAttribute("x2", this.left(at));
    refill(told, el("strong", {}, stepName(rows[0].line.run, at)),
      rows.map(({ line, text }) => el("div", {}, el("span", { class: `key c${line.colour}` }, line.label), el("b", {}, text))));
    told.style.left = this.left(at) > CHART.width / 2 ? "8%" : "auto";
    told.style.right = this.left(at) > CHART.width / 2 ? "auto" : "4%";
  }
}

// "rl step 12" of a step since the run's beginning.
function stepName(run, step) {
  const stages = DATA.runs[run].stages;
  const stage = stages.findLast((one) => one.offset < step) ?? stages[0];
  return stage ? `${stage.name} step ${Math.round(step - stage.offset)}` : `step ${Math.round(step)}`;
}
