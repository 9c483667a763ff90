// The top of the page: what it is of, before and after, the held-out prompts over time, numbers by task.

function header() {
  const themes = ["auto", "light", "dark"];
  const button = el("button", { id: "theme", title: "colours", click: () => setTheme(themes[(themes.indexOf(theme()) + 1) % 3]) });
  const setTheme = (name) => {
    remember("theme", name === "auto" ? "" : name);
    document.documentElement.dataset.theme = name;
    button.textContent = { auto: "◐", light: "☀", dark: "☾" }[name];
    button.setAttribute("aria-label", `colours: ${name}`);
  };
  const theme = () => state.get("theme") ?? "auto";
  setTheme(theme());
  const links = [["strip", "Pictures"], DATA.apart.length > 0 && ["apart", "Furthest apart"], ["curves", "Curves"], ["histograms", "Histograms"], ["samples", "Samples"], ["numbers", "Numbers"]];
  return el(
    "header", {},
    el("div", { class: "top" },
      el("h1", {}, DATA.runs.map((run) => run.name).join(" · ")),
      DATA.live && el("span", { class: "chip live", id: "live" }, "following"),
      button,
    ),
    el("nav", {}, links.filter(Boolean).map(([id, text]) => el("a", { href: `#${id}`, click: (event) => jump(event, id) }, text))),
    DATA.runs.map((run) => el("details", { class: "facts" },
      el("summary", {}, runFacts(run)),
      el("dl", {}, run.facts.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])),
    )),
    DATA.runs.filter((run) => run.warnings.length > 0).map((run) => el("details", { class: "warnings", open: run.warnings.length < 4 },
      el("summary", {}, `${run.warnings.length} ${run.warnings.length === 1 ? "warning" : "warnings"}`),
      el("ul", {}, run.warnings.map((text) => el("li", {}, text))),
    )),
  );
}

// The address keeps what the reader has chosen, so links of the page scroll without changing it.
function jump(event, id) {
  event.preventDefault();
  document.getElementById(id)?.scrollIntoView({ behavior: "smooth" });
}

function runFacts(run) {
  const stages = run.stages.map((stage) => `${stage.name} ${stage.steps} steps, ${duration(stage.seconds)}`);
  return [run.name, ...stages].join(" · ");
}

function tiles() {
  const tile = (run, one) => {
    const last = one.stages.at(-1).last;
    const first = one.stages[0].first;
    const known = last !== null && first !== null;
    return el("div", { class: "tile", "data-metric": one.metric },
      el("span", {}, DATA.runs.length > 1 ? `${run.name} · ${one.label}` : one.label),
      el("div", { class: "numbers" },
        el("i", {}, short(first)), el("span", { class: "arrow" }, "→"), el("b", {}, short(last)),
        known && el("em", { class: last >= first ? "up" : "down" }, signed(last - first)),
      ),
      one.stages.length > 1 && one.stages.map((stage) => el("small", {}, `${stage.stage}: ${short(stage.first)} → ${short(stage.last)}`)),
    );
  };
  return el("section", { class: "tiles", id: "tiles" }, DATA.runs.map((run) => run.tiles.map((one) => tile(run, one))));
}

// A row a held-out prompt: what was asked, the target, and the drawing at each evaluation.
function strip() {
  const sets = [...new Set(DATA.groups.filter((group) => group.set).map((group) => group.set))];
  if (sets.length === 0) return null;
  const body = el("div", { class: "scroll" });
  const show = () => body.replaceChildren(stripTable(state.get("strip_set") ?? sets[0]));
  const section = el("section", { id: "strip" },
    el("h2", {}, "Held-out prompts"),
    el("div", { class: "controls" }, sets.length > 1 && choice("strip_set", "set", sets.map((set) => [set, set]), show)),
    body,
  );
  show();
  return section;
}

function stripTable(set) {
  const own = DATA.groups.filter((group) => group.set === set);
  const moment = (group) => `${group.run}/${group.stage}/${group.step}`;
  const columns = new Map();
  for (const group of own) columns.set(moment(group), group);
  const ordered = [...columns.values()].sort((a, b) => a.run - b.run || stageOrder(a) - stageOrder(b) || a.step - b.step);
  const rows = new Map();
  for (const group of own) {
    const key = `${group.task}\n${group.prompt_id}`;
    if (!rows.has(key)) rows.set(key, new Map());
    rows.get(key).set(moment(group), group);
  }
  // The prompts that every evaluation on the page has; of a run in its beginning, any.
  const most = Math.max(0, ...[...rows.values()].map((cells) => cells.size));
  const full = [...rows.values()].filter((cells) => cells.size === most).slice(0, 12);
  const head = el("tr", {}, el("th", {}, "asked"), el("th", {}, "target"),
    ordered.map((group) => el("th", {}, runName(group.run) && el("small", {}, runName(group.run)), `${group.stage} ${group.step}`)));
  const line = (cells) => {
    const any = cells.values().next().value;
    return el("tr", {},
      el("th", { class: "asked" }, el("small", {}, any.task), el("span", {}, any.asked),
        any.draft !== null && el("div", { class: "cell" }, picture(any.draft, "draft")),
        any.shown.slice(0, 1).map((view) => el("div", { class: "cell" }, picture(view, "shown")))),
      el("td", {}, any.target !== null ? el("div", { class: "cell" }, picture(any.target, "target")) : el("p", { class: "words" }, any.target_words ?? "–")),
      ordered.map((group) => el("td", {}, cells.has(moment(group)) && stripCell(cells.get(moment(group))))),
    );
  };
  return el("table", { class: "strip" }, el("thead", {}, head), el("tbody", {}, full.map(line)));
}

function stripCell(group) {
  const member = group.members[0];
  if (member.words) return el("div", {}, el("p", { class: "words" }, member.text), el("small", {}, short(member.total)));
  return el("div", { class: "cell" }, picture(member.picture ?? member.reason ?? "no SVG in it", short(member.total)));
}

// The prompts on which two runs are furthest apart, with what each run makes of them.
function furthestApart() {
  if (DATA.apart.length === 0) return null;
  const places = new Map(DATA.apart.map((one) => [`${one.set}/${one.runs[1]}`, `${one.set}: ${DATA.runs[one.runs[1]].name}, ${DATA.runs[one.runs[0]].name}`]));
  const body = el("div", { class: "scroll" });
  const show = () => body.replaceChildren(apartTable(state.get("apart_of") ?? places.keys().next().value));
  const section = el("section", { id: "apart" },
    el("h2", {}, "Furthest apart"),
    el("p", { class: "muted" }, "The held-out prompts whose rewards differ most in the runs' last evaluations."),
    el("div", { class: "controls" }, places.size > 1 && choice("apart_of", "of", [...places], show)),
    body);
  show();
  return section;
}

function apartTable(of) {
  const own = DATA.apart.filter((one) => `${one.set}/${one.runs[1]}` === of);
  if (own.length === 0) return el("p", { class: "muted" }, "no prompt differs");
  // The first completion is drawn; what is compared is the mean of all.
  const mean = (members) => {
    const totals = members.map((one) => one.total).filter((total) => total !== null);
    return totals.length > 1 && el("small", {}, `mean of ${totals.length}: ${short(totals.reduce((a, b) => a + b, 0) / totals.length)}`);
  };
  const cell = (place) => (place === null ? el("small", {}, "did not fit into this page") : [stripCell(DATA.groups[place]), mean(DATA.groups[place].members)]);
  const line = (one) => {
    const known = DATA.groups[one.groups[0] ?? one.groups[1]];
    const target = known && (known.target !== null
      ? el("div", { class: "cell" }, picture(known.target, "target"))
      : el("p", { class: "words" }, known.target_words ?? "–"));
    return el("tr", { "data-difference": one.difference },
      el("th", { class: "asked" }, el("small", {}, `${one.task} · ${one.prompt_id}`), el("span", {}, known?.asked ?? ""),
        known && known.draft !== null && el("div", { class: "cell" }, picture(known.draft, "draft")),
        known && known.shown.slice(0, 1).map((view) => el("div", { class: "cell" }, picture(view, "shown")))),
      el("td", {}, target),
      one.groups.map((place) => el("td", {}, cell(place))),
      el("td", { class: one.difference > 0 ? "up" : "down" }, signed(one.difference)));
  };
  const names = own[0].runs.map((run) => DATA.runs[run].name);
  return el("table", { class: "strip" },
    el("thead", {}, el("tr", {}, ["asked", "target", ...names, "difference"].map((name) => el("th", {}, name)))),
    el("tbody", {}, own.map(line)));
}

function numbers() {
  return el("section", { id: "numbers" }, el("h2", {}, "Numbers"), paired(),
    DATA.runs.map((run) => run.tables.map((table) => el("details", {},
      el("summary", {}, runLabel(run, table.title)), numberTable(table)))));
}

function runLabel(run, title) {
  return DATA.runs.length > 1 ? `${run.name} · ${title}` : title;
}

function numberTable(table) {
  const lines = table.rows.flatMap((row) => row.stages.map((stage) => [row.label, stage]));
  const change = (stage) => (stage.first === null || stage.last === null ? null : stage.last - stage.first);
  return el("div", { class: "scroll" }, el("table", {},
    el("thead", {}, el("tr", {}, ["not trained on", "stage", "before", "after", "change"].map((name) => el("th", {}, name)))),
    el("tbody", {}, lines.map(([label, stage]) => el("tr", {},
      el("td", {}, label), el("td", {}, stage.stage), el("td", {}, short(stage.first)), el("td", {}, short(stage.last)), el("td", {}, signed(change(stage)))))),
  ));
}

// Differences of runs on the same prompts, with their standard errors.
function paired() {
  if (DATA.paired.length === 0) return null;
  const line = (one) => el("tr", {},
    el("td", {}, `${DATA.runs[one.runs[1]].name} less ${DATA.runs[one.runs[0]].name}`),
    el("td", {}, one.set), el("td", {}, one.task ?? "all tasks"), el("td", {}, one.part), el("td", {}, String(one.prompts)),
    el("td", {}, short(one.first)), el("td", {}, short(one.second)),
    el("td", {}, signed(one.difference)), el("td", {}, one.error === null ? "–" : `± ${short(one.error)}`),
  );
  return el("div", { class: "scroll", id: "paired" },
    el("h3", {}, "The same prompts in the last evaluations"),
    el("table", {},
      el("thead", {}, el("tr", {}, ["runs", "set", "task", "part", "prompts", "first", "other", "difference", "standard error"].map((name) => el("th", {}, name)))),
      el("tbody", {}, DATA.paired.map(line))));
}
