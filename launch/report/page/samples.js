// Samples: a card a group of completions, chosen and ordered by what the reader asks for.

const PAGE = 12;

function samples() {
  if (DATA.groups.length === 0) return null;
  const list = el("div", { class: "cards", id: "cards" });
  const count = el("p", { class: "muted", id: "count" });
  let shown = PAGE;
  const more = el("button", { id: "more", click: () => ((shown += PAGE), show()) }, "show more");
  const restart = () => ((shown = PAGE), show());
  const distinct = (of) => [...new Set(DATA.groups.map(of))];
  const any = (label) => ["", label];
  const named = (values) => values.map((value) => [String(value), String(value)]);
  const reasons = [...new Set(DATA.groups.flatMap((group) => group.members.map((one) => reasonWord(one))).filter(Boolean))].sort();
  const controls = [
    DATA.runs.length > 1 && choice("run", "run", [any("all runs"), ...DATA.runs.map((run, at) => [String(at), run.name])], restart),
    choice("of", "of", [any("everything"), ...named(distinct(place))], restart),
    choice("task", "task", [any("all tasks"), ...named(distinct((group) => group.task))], restart),
    choice("step", "step", [any("all steps"), ...named(distinct((group) => group.step).sort((a, b) => a - b))], restart),
    choice("reason", "outcome", [any("any"), ["valid", "valid"], ["invalid", "invalid"], ["cut", "cut off at the limit"], ...reasons.map((word) => [`=${word}`, word])], restart),
    limit("least", "reward from", restart),
    limit("most", "to", restart),
    choice("sort", "order", ORDERS.map(([name, label]) => [name, label]), restart),
  ];
  const show = () => {
    const found = selected();
    const left = [
      DATA.left_out > 0 && `${DATA.left_out} more did not fit into this page`,
      DATA.shortened > 0 && `${DATA.shortened} are shown with the beginning of their source alone`,
    ];
    count.textContent = [`${found.length} of ${DATA.groups.length} groups`, ...left.filter(Boolean)].join("; ");
    list.replaceChildren(...found.slice(0, shown).map(({ group, lead }) => card(group, lead)));
    more.hidden = found.length <= shown;
  };
  show();
  return el("section", { id: "samples" }, el("h2", {}, "Samples"), el("div", { class: "controls" }, controls), count, list, more);
}

function limit(name, label, changed) {
  const input = el("input", { type: "number", id: name, step: "0.05", input: () => (remember(name, input.value), changed()) });
  input.value = state.get(name) ?? "";
  return el("label", { class: "control" }, el("span", {}, label), input);
}

// Orders of the samples: name, label, how well a completion leads its group and a group the list (more is earlier).
const ORDERS = [
  ["latest", "latest first", (group) => totalStep(group), null],
  ["earliest", "earliest first", (group) => -totalStep(group), null],
  ["best", "best first", null, (one) => one.total ?? -Infinity],
  ["worst", "worst first", null, (one) => -(one.total ?? Infinity)],
  ["improved", "most improved first", (group) => group.gain ?? -Infinity, null],
  ["declined", "most declined first", (group) => (group.gain === null ? -Infinity : -group.gain), null],
  ["advantage", "largest advantage first", null, (one) => Math.abs(one.advantage ?? 0)],
  ["loss", "largest loss first", null, (one) => one.loss ?? -Infinity],
];

// The groups that the reader asks for, each with the completion that it is shown by.
function selected() {
  const wanted = (name) => state.get(name) ?? "";
  const matches = (group) =>
    (wanted("run") === "" || String(group.run) === wanted("run")) &&
    (wanted("of") === "" || place(group) === wanted("of")) &&
    (wanted("task") === "" || group.task === wanted("task")) &&
    (wanted("step") === "" || String(group.step) === wanted("step"));
  const [least, most] = [wanted("least"), wanted("most")];
  const fits = (one) =>
    outcome(one, wanted("reason")) &&
    (least === "" || (one.total !== null && one.total >= Number(least))) &&
    (most === "" || (one.total !== null && one.total <= Number(most)));
  const [, , ofGroup, ofMember] = ORDERS.find(([name]) => name === wanted("sort")) ?? ORDERS[0];
  const found = [];
  for (const group of DATA.groups.filter(matches)) {
    const fitting = group.members.filter(fits);
    if (fitting.length === 0) continue;
    const lead = ofMember ? fitting.reduce((a, b) => (ofMember(b) > ofMember(a) ? b : a)) : fitting[0];
    const rank = ofGroup ? ofGroup(group) : ofMember(lead);
    if (ofGroup && rank === -Infinity) continue;
    found.push({ group, lead, rank });
  }
  return found.sort((a, b) => (a.rank === b.rank ? 0 : b.rank > a.rank ? 1 : -1));
}

function outcome(one, wanted) {
  if (wanted === "") return true;
  if (wanted === "valid") return one.valid === true;
  if (wanted === "invalid") return one.valid === false;
  if (wanted === "cut") return one.cut;
  return reasonWord(one) === wanted.slice(1);
}

// The word that a reason begins with.
function reasonWord(one) {
  return one.reason === null ? "" : one.reason.split(/[:( ]/)[0];
}

function card(group, lead) {
  const article = el("article", { "data-task": group.task, "data-step": group.step, "data-set": group.set ?? "training" });
  const show = (member) => {
    const siblings = group.members.length > 1 && el("div", { class: "siblings", role: "group", "aria-label": "the whole group" },
      group.members.map((one) => sibling(one, one === member, () => show(one))));
    article.dataset.total = member.total ?? "";
    article.dataset.valid = member.valid;
    refill(article,
      el("p", { class: "muted where" }, [runName(group.run), place(group), `step ${group.step}`, group.task, group.prompt_id].filter(Boolean).join(" · ")),
      el("p", { class: "prompt" }, group.asked),
      el("details", {}, el("summary", {}, "raw prompt"), el("pre", {}, group.raw)),
      member.words ? words(group, member) : drawings(group, member),
      chips(group, member), siblings, source(member));
  };
  show(lead);
  return article;
}

// What the prompt shows, the drawing, the target and their difference.
function drawings(group, member) {
  const both = typeof member.picture === "number" && typeof group.target === "number";
  const difference = () => el("figure", { class: "picture" },
    el("div", { class: "difference" }, [member.picture, group.target].map((view) => el("img", { src: `data:image/png;base64,${DATA.pictures[view]}`, alt: "" }))),
    el("figcaption", {}, "difference"));
  return el("div", { class: "pictures" },
    group.shown.map((view) => picture(view, "shown")),
    group.draft !== null && picture(group.draft, "draft"),
    picture(member.picture ?? member.reason ?? "no SVG in it", role(member, "drawing")),
    group.target !== null && picture(group.target, "target"),
    both && difference());
}

// Words beside words: those that the target has too are marked.
function words(group, member) {
  const plain = (text) => text.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "");
  const marked = (text, other) => {
    const known = new Set((other ?? "").split(/\s+/).map(plain).filter(Boolean));
    return text.split(/(\s+)/).map((word) => (known.has(plain(word)) ? el("mark", {}, word) : word));
  };
  const target = group.target_words;
  return el("div", { class: "pictures" },
    group.shown.map((view) => picture(view, "shown")),
    group.draft !== null && picture(group.draft, "shown"),
    el("figure", { class: "told-words" }, el("p", {}, marked(member.text, target)), el("figcaption", {}, role(member, "answer"))),
    target !== null && el("figure", { class: "told-words" }, el("p", {}, marked(target, member.text)), el("figcaption", {}, "target")));
}

function chips(group, member) {
  const chip = (text, bad) => el("span", { class: bad ? "chip bad" : "chip" }, text);
  if (member.learnt) {
    return el("p", { class: "score" },
      el("b", {}, short(member.loss)), chip(member.chosen === null ? "loss of this answer" : "loss of the pair"),
      chip(`${member.tokens} tokens`), member.cut && chip("cut off at the limit", true));
  }
  return el("p", { class: "score" },
    el("b", {}, short(member.total)),
    group.gain !== null && chip(`${signed(group.gain)} since the first evaluation`),
    member.advantage !== null && chip(`advantage ${signed(member.advantage)}`),
    member.parts.map(([name, value]) => chip(`${name} ${short(value)}`)),
    chip(`${member.tokens} tokens`),
    member.cut && chip("cut off at the limit", true),
    member.valid === false && chip(member.reason ?? "invalid", true),
    member.total === null && chip(`not scored${member.unscored.length > 0 ? ": " + member.unscored.join(", ") : ""}`, true));
}

function sibling(one, chosen, click) {
  const inside = typeof one.picture === "number"
    ? el("img", { src: `data:image/png;base64,${DATA.pictures[one.picture]}`, alt: `completion ${one.index}`, loading: "lazy" })
    : el("span", { class: one.words ? "none plain" : "none" }, one.words ? "words" : "×");
  return el("button", { class: chosen ? "sibling chosen" : "sibling", click, title: `completion ${one.index}` }, inside,
    el("small", {}, one.learnt ? role(one, "learnt") : short(one.total)));
}

// What a picture or words are called: what was learnt from is the target itself, or a pair's chosen or rejected one.
function role(member, otherwise) {
  if (!member.learnt) return otherwise;
  return member.chosen === null ? "target" : member.chosen ? "chosen" : "rejected";
}

// The source; each token under the colour of its log-probability, where the tokens are known.
function source(member) {
  const details = el("details", { class: "source", toggle: () => details.open && show() },
    el("summary", {}, `source, ${member.text.length} characters`));
  const show = () => {
    const heat = member.lengths.length > 0;
    refill(details, details.querySelector("summary"),
      member.lacking !== null && el("p", { class: "muted" }, member.lacking),
      heat && el("p", { class: "muted" }, "likely ", el("span", { class: "scale" }), " unlikely tokens"),
      el("pre", {}, heat ? tokens(member) : member.text));
  };
  return details;
}

function tokens(member) {
  let from = 0;
  return member.lengths.map((length, at) => {
    const text = member.text.slice(from, from + length);
    from += length;
    if (text === "") return null;
    const logprob = member.surprises[at] === null ? null : -member.surprises[at] / 100;
    const heat = Math.min(1, -(logprob ?? -20) / 5);
    const span = el("span", { class: "token", title: logprob === null ? "no probability" : `${logprob.toFixed(2)} (${(100 * Math.exp(logprob)).toFixed(1)} %)` }, text);
    span.style.setProperty("--heat", heat.toFixed(2));
    return span;
  });
}
