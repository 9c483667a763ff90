// All charts under their headings, with what they are drawn by; and histograms.

function curves() {
  const groups = [...new Set(DATA.panels.map((panel) => panel.group))];
  const body = el("div", {});
  const slider = el("input", { type: "range", id: "smoothing", min: 0, max: 0.98, step: 0.02, input: () => (remember("smoothing", slider.value), show()) });
  slider.value = state.get("smoothing") ?? (Math.max(0, ...DATA.runs.flatMap((run) => run.stages.map((stage) => stage.steps))) > 60 ? 0.8 : 0);
  const tick = (name, label, on) => {
    const box = el("input", { type: "checkbox", id: name, change: () => (remember(name, box.checked ? "1" : "0"), show()) });
    box.checked = (state.get(name) ?? (on ? "1" : "0")) === "1";
    return [box, el("label", { class: "control" }, box, el("span", {}, label))];
  };
  const [log, logLabel] = tick("log", "log scale", false);
  const [bands, bandsLabel] = tick("bands", "± std", true);
  const show = () => {
    const look = { smoothing: Number(slider.value), log: log.checked, bands: bands.checked };
    body.replaceChildren(...groups.map((group, at) => {
      const own = DATA.panels.filter((panel) => panel.group === group);
      return el("details", { open: at < 3 }, el("summary", {}, el("h3", {}, group)),
        el("div", { class: "charts" }, own.map((panel) => chart(panel, look))));
    }));
  };
  show();
  return el("section", { id: "curves" }, el("h2", {}, "Curves"),
    el("div", { class: "controls" }, el("label", { class: "control" }, el("span", {}, "smoothing"), slider), logLabel, bandsLabel), body);
}

// Rewards and lengths of one step beside those of another, by task.
function histograms() {
  const all = DATA.runs.flatMap((run, number) => run.histograms.map((one) => ({ ...one, run: number })));
  const key = (one) => `${one.run}/${one.stage}/${one.set ?? ""}`;
  const places = new Map(all.map((one) => [key(one), [runName(one.run), place(one)].filter(Boolean).join(" · ")]));
  if (places.size === 0) return null;
  const body = el("div", { class: "charts" });
  const pick = choice("histogram_of", "of", [...places], () => show());
  // The last place of the page is the newest: its training, where it has some.
  const latest = [...places.keys()].filter((one) => one.endsWith("/")).at(-1) ?? [...places.keys()].at(-1);
  const select = pick.querySelector("select");
  if (!state.get("histogram_of")) select.value = latest;
  const show = () => {
    const own = all.filter((one) => key(one) === select.value);
    const tasks = [...new Set(own.map((one) => one.task))];
    // What was learnt from has no reward.
    const counted = (steps, part) => steps.some((one) => one[part].counts.some((count) => count > 0));
    const cards = tasks.flatMap((task) => {
      const steps = own.filter((one) => one.task === task);
      return [["rewards", "reward"], ["lengths", "length in tokens"]].filter(([part]) => counted(steps, part)).map(([part, words]) => bars(`${task}: ${words}`, steps, part));
    });
    body.replaceChildren(...cards);
  };
  show();
  return el("section", { id: "histograms" }, el("h2", {}, "Histograms"), el("div", { class: "controls" }, pick), body);
}

// The first step's counts behind the last one's, as shares of each.
function bars(title, steps, part) {
  const [first, last] = [steps[0], steps.at(-1)];
  const share = (one) => {
    const sum = one[part].counts.reduce((a, b) => a + b, 0) || 1;
    return one[part].counts.map((count) => count / sum);
  };
  const sets = first === last ? [[last, "f0"]] : [[first, "before"], [last, "f0"]];
  const most = Math.max(1e-9, ...sets.flatMap(([one]) => share(one)));
  const [width, height, floor] = [460, 150, 126];
  const wide = width / last[part].counts.length;
  const rects = sets.map(([one, look]) => share(one).map((value, at) => svgEl("rect", {
    class: `bar ${look}`, x: at * wide + 1, width: wide - 2, y: floor - (value / most) * (floor - 8), height: (value / most) * (floor - 8),
  }, svgEl("title", {}, `step ${one.step}: ${one[part].counts[at]} from ${short(one[part].low + (at * (one[part].high - one[part].low)) / last[part].counts.length)}`))));
  return el("figure", { class: "chart histogram" }, el("figcaption", {}, title),
    svgEl("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" }, rects,
      svgEl("line", { class: "grid", x1: 0, x2: width, y1: floor, y2: floor }),
      svgEl("text", { x: 0, y: height - 8 }, short(last[part].low)),
      svgEl("text", { x: width, y: height - 8, "text-anchor": "end" }, short(last[part].high))),
    el("p", { class: "legend" }, sets.map(([one, look]) => el("span", { class: `key ${look === "f0" ? "c0" : "c-before"}` }, `step ${one.step}`))));
}
