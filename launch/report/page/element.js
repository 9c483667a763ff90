// Small helpers: elements made of text alone, numbers as people read them, and the view's state in the address.
// Nothing here parses markup, so that what a policy wrote stays text.

const DATA = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";

// An element; `attributes` are set by name, functions as listeners, children are elements or text.
function el(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

function svgEl(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

// An element's new children in place of its old ones; what is false or absent is none.
function refill(element, ...children) {
  element.replaceChildren();
  return filled(element, {}, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(3)) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
  return element;
}

// A number in four characters or so; what was not measured is a dash.
function short(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size < 1e-3 || size >= 1e6) return value.toExponential(2);
  if (size >= 100) return value.toFixed(0);
  if (size >= 10) return value.toFixed(1);
  return value.toFixed(3);
}

function signed(value) {
  return (value > 0 ? "+" : "") + short(value);
}

function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor(whole / 60) % 60} min`;
}

// A picture of the page's book, or why there is none.
function picture(view, caption) {
  const inside =
    typeof view === "number"
      ? el("img", { src: `data:image/png;base64,${DATA.pictures[view]}`, alt: caption, loading: "lazy" })
      : el("div", { class: "none" }, view ?? "no picture");
  return el("figure", { class: "picture" }, inside, el("figcaption", {}, caption));
}

// What the reader has chosen, kept in the address so that a reload and a link keep it.
const state = new URLSearchParams(location.hash.slice(1));

function remember(name, value) {
  if (value === "" || value === null) state.delete(name);
  else state.set(name, value);
  try {
    history.replaceState(null, "", "#" + state.toString());
  } catch {
    // A page shown without an address has none to keep it in.
  }
}

// A select whose choice is remembered; `choices` are [value, label].
function choice(name, label, choices, changed) {
  const select = el("select", { id: name, change: () => (remember(name, select.value), changed()) });
  for (const [value, text] of choices) select.append(el("option", { value }, text));
  const wanted = state.get(name);
  if (choices.some(([value]) => value === wanted)) select.value = wanted;
  return el("label", { class: "control" }, el("span", {}, label), select);
}

function runName(at) {
  return DATA.runs.length > 1 ? DATA.runs[at].name : "";
}

// "rl, held out" and the like.
function place(group) {
  return group.set ? `${group.stage} · ${group.set}` : `${group.stage} · training`;
}

// Stages in the order in which the run has them.
function stageOrder(group) {
  return DATA.runs[group.run].stages.findIndex((stage) => stage.name === group.stage);
}

function totalStep(group) {
  const stage = DATA.runs[group.run].stages.find((one) => one.name === group.stage);
  return (stage ? stage.offset : 0) + group.step;
}
