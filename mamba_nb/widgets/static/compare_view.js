// Choose models, ask, watch them side by side.
const PATIENCE_MS = 1500;
const BUSY = "The kernel is busy with another cell; this begins when it is free.";
const COPIED_MS = 2000;

export default {
  initialize({ model }) { live(model); },
  render({ model, el }) {
    const send = (what, more) => tell(model, { do: what, ...more });
    const voice = announcer(), models = modelsBox(send), prompt = promptBox(send), diff = diffBox(send);
    const panels = panelsBox(model, send, voice);
    const error = h("div", {}), summary = h("div", { class: "mn-cv-summary" });
    const root = h("div", { class: `${ROOT} mn-cv` }, kernelNote(model, el), models.element, prompt.element, error, diff.element, panels.element, summary, voice.box);
    el.append(root);
    const sayError = onChange((state) => state.error, (it) => error.replaceChildren(errorBox(it) || ""));
    const saySummary = onChange((state) => state.summary, (it) => {
      summary.replaceChildren(...cleaned(it || "").childNodes);
      for (const box of summary.querySelectorAll(".mn-scroll")) keyboardScrolls(box, "Summary");
    });
    return watch(model, (state, what) => {
      models.update(state);
      prompt.update(state);
      diff.update(state);
      panels.update(state, what);
      sayError(state);
      saySummary(state);
      voice.say(spoken(state));
    });
  },
};

// Calls `draw` with a part of the state when that part has changed.
function onChange(part, draw) {
  let before;
  return (state) => {
    const now = part(state), text = JSON.stringify(now);
    if (text !== before) { before = text; draw(now, state); }
  };
}

// What can scroll can be reached without a mouse.
function keyboardScrolls(box, name) {
  for (const [attribute, value] of [["tabindex", "0"], ["role", "region"], ["aria-label", name]]) box.setAttribute(attribute, value);
}

function spoken(state) {
  const list = state.panels || [];
  if (state.running) return endedWords(list) || "Running.";
  return state.summary ? `All answers have ended. ${endedWords(list)}` : "";
}

// The models: a list to tick in, with a filter.
function modelsBox(send) {
  const summary = h("summary", {}), list = h("div", { class: "mn-cv-list" });
  const filter = h("input", { type: "text", placeholder: "name or server", oninput: () => sift() });
  const look = button("Find models", () => send("find")), state = h("span", {}), none = h("div", { class: "mn-cv-none mn-quiet" });
  const set = h("fieldset", {}, h("legend", { class: "mn-hidden" }, "Models to compare"), list);
  const element = h("details", { class: "mn-cv-models" }, summary,
    h("div", { class: "mn-actions" }, labelled("Filter", filter), look, state), set, none);
  const rows = new Map();
  const sift = () => {
    const words = filter.value.toLowerCase().split(/\s+/);
    for (const row of rows.values()) row.element.hidden = !words.every((word) => row.search.includes(word));
  };
  const fill = onChange((it) => it.models.choices, (choices) => {
    const focused = [...rows].find(([, row]) => row.element.contains(document.activeElement));
    rows.clear();
    for (const choice of choices) rows.set(choice.id, modelRow(choice, send));
    list.replaceChildren(...[...rows.values()].map((row) => row.element));
    if (focused && rows.has(focused[0])) rows.get(focused[0]).box.focus();
    sift();
  });
  let opened = false;
  return {
    element,
    update(it) {
      if (!it.models) return;
      const { chosen, choices, searching, looked, advice, most } = it.models;
      fill(it);
      const names = chosen.map((id) => (choices.find((choice) => choice.id === id) || {}).name || id);
      say(summary, names.length ? `Models: ${names.join(", ")}` : "Models: choose two to six");
      if (!opened) { opened = true; element.open = chosen.length < 2; }
      for (const [id, row] of rows) {
        row.box.checked = chosen.includes(id);
        row.box.disabled = it.running || !!row.why || (!row.box.checked && chosen.length >= most);
      }
      look.disabled = searching;
      state.replaceChildren(searching ? stateWord("searching") : "");
      none.replaceChildren(...(looked ? advice : []).map((text) => h("div", {}, text)));
    },
  };
}

function worded(fact) {
  if (fact.name === "context") return `ctx ${fact.text}`;
  return fact.text === "yes" ? fact.name : fact.text;
}

function modelRow(choice, send) {
  const box = h("input", { type: "checkbox", disabled: !!choice.disabled, onchange: () => send("choose", { id: choice.id, on: box.checked }) });
  const known = choice.facts.filter((fact) => fact.text !== "?" && fact.text !== "no");
  const facts = known.map((fact) => h("span", { title: `${fact.name}: ${fact.says}` }, worded(fact)));
  const where = [choice.title, choice.place].filter(Boolean).join(" · ");
  const element = h("label", { class: "mn-cv-row" }, box, h("span", {}, h("bdi", {}, choice.name),
    h("span", { class: "mn-cv-facts mn-quiet" }, where && h("span", {}, where), facts, choice.disabled && h("span", {}, choice.disabled))));
  return { element, box, search: choice.search, why: choice.disabled };
}

// The prompt, and what starts and stops.
function promptBox(send) {
  const area = h("textarea", { rows: 3, dir: "auto", onkeydown: (event) => keyed(event), onchange: () => send("type", { text: area.value }) });
  const field = labelled("Prompt", area), label = field.firstChild;
  const back = button("Previous", () => send("step", { by: -1 })), on = button("Next", () => send("step", { by: 1 }));
  const which = h("span", { class: "mn-quiet mn-cv-which" }), progress = h("span", { class: "mn-quiet mn-cv-progress" });
  const main = button("Run", () => pressed(), { main: true }), all = button("Run all", () => start({ all: true }));
  const hint = h("span", { class: "mn-quiet" }, /Mac|iP/.test(navigator.platform) ? "⌘ Enter runs" : "Ctrl+Enter runs");
  const stepper = h("div", { class: "mn-actions mn-cv-stepper" }, back, on, which);
  const element = h("div", { class: "mn-cv-prompt" }, stepper, field,
    h("div", { class: "mn-actions mn-cv-run" }, main, all, hint, progress));
  let state = {}, timer = 0;
  const start = (more) => {
    send("run", { prompt: area.value, ...more });
    clearTimeout(timer);
    timer = setTimeout(() => { if (!state.running && !state.error) say(progress, BUSY); }, PATIENCE_MS);
  };
  const pressed = () => (state.running ? send("stop") : start({}));
  const keyed = (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    event.stopPropagation();  // the notebook would run the cell
    if (!state.running) start({});
  };
  const fill = onChange((it) => it.prompt, (it) => { if (area.value !== it.text) area.value = it.text; });
  return {
    element,
    update(it) {
      state = it;
      if (!it.prompt) return;
      const { at, total, given } = it.prompt;
      fill(it);
      stepper.hidden = total < 2;
      back.disabled = at <= 1;
      on.disabled = at >= total;
      say(which, `${at} of ${total}`);
      say(label, "Prompt");
      main.classList.toggle("mn-main", !it.running);
      say(main, it.running ? "Stop" : given ? "Run this one" : "Run");
      say(all, `Run all ${total}`);
      all.hidden = total < 2;
      all.disabled = it.running;
      if (it.running || it.progress || it.error) { clearTimeout(timer); say(progress, it.error ? "" : it.progress); }
    },
  };
}

function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Which two answers to mark the differences of.
function diffBox(send) {
  const one = h("select", { onchange: () => tell(true) }), other = h("select", { onchange: () => tell(true) });
  const mark = button("Mark differences", () => tell(mark.getAttribute("aria-pressed") !== "true"), { pressed: "false" });
  const says = h("span", { class: "mn-quiet mn-cv-says", role: "status" });
  const element = h("div", { class: "mn-actions mn-cv-diff" }, labelled("First answer", one, { hidden: true }), "and",
    labelled("Second answer", other, { hidden: true }), mark, says);
  const tell = (on) => send("differ", { a: one.value, b: other.value, on });
  const fill = onChange((it) => (it.panels || []).map((panel) => [panel.id, panel.label]), (list) => {
    for (const [select, place] of [[one, 0], [other, 1]]) {
      const before = select.value;
      select.replaceChildren(...list.map(([id, label]) => h("option", { value: id }, label)));
      select.value = list.some(([id]) => id === before) ? before : (list[place] || [""])[0];
    }
    if (one.value === other.value && list.length > 1) other.value = list.find(([id]) => id !== one.value)[0];
  });
  return {
    element,
    update(it) {
      fill(it);
      const diff = it.diff || {};
      element.hidden = (it.panels || []).length < 2;
      if (diff.on && diff.a) { one.value = diff.a; other.value = diff.b; }
      mark.setAttribute("aria-pressed", String(!!diff.on));
      mark.disabled = !diff.on && (it.panels || []).filter((panel) => panel.answers).length < 2;
      say(says, diff.on ? legend(diff, it.panels) : "");
    },
  };
}

function legend(diff, panels) {
  const name = (id) => (panels.find((panel) => panel.id === id) || {}).label;
  const marked = Object.keys(diff.parts || {}).length;
  return marked ? `− only in ${name(diff.a)}, + only in ${name(diff.b)}. ${diff.says}` : diff.says;
}

function marked(parts, tag, sign) {
  const text = parts.map(([only, piece]) => (only ? h(tag, {}, h("span", { class: "mn-cv-sign" }, sign), piece) : piece));
  return h("div", { class: "mn-tail", dir: "auto" }, text);
}

// The panels; pinned ones stand first.
function panelsBox(model, send, voice) {
  const grid = h("div", { class: "mn-grid" });
  let panels = [], order = "";
  const arrange = (list, wanted) => {
    const now = list.map((panel) => panel.id).join();
    const known = new Map(panels.map((panel) => [panel.id, panel]));
    if (panels.map((panel) => panel.id).join() !== now) {
      panels = list.map((panel) => known.get(panel.id) || onePanel(panel.id, model, send, voice));
      order = "";
    }
    if (order === (order = wanted.join())) return;
    const focused = document.activeElement;
    grid.replaceChildren(...wanted.map((index) => panels[index].element));
    if (grid.contains(focused)) focused.focus();  // moving an element takes its focus away
  };
  return {
    element: grid,
    update(state, what) {
      const list = state.panels || [];
      arrange(list, state.order && state.order.length === list.length ? state.order : [...list.keys()]);
      const touched = what && what.panels && !Object.keys(what.set || {}).length ? Object.keys(what.panels) : list.keys();
      for (const index of touched) panels[index].update(list[index], state);
    },
  };
}

function onePanel(id, model, send, voice) {
  let now = {};
  const pin = button("Pin", () => send("pin", { panel: id, on: !now.pinned }), { pressed: "false", title: "Keep it first, and its answer, while others are asked" });
  const again = button("Ask again", () => send("again", { panel: id }));
  const copy = button("Copy", () => copyAnswer(id, model, send, panel.answer, (ok) => {
    say(copy, ok ? "Copied" : "Not copied");
    voice.say(ok ? `The answer of ${now.label} is copied.` : "The browser did not allow it.");
    setTimeout(() => say(copy, "Copy"), COPIED_MS);
  }));
  const back = button("‹", () => send("browse", { panel: id, by: -1 })), on = button("›", () => send("browse", { panel: id, by: 1 }));
  const at = h("span", { class: "mn-quiet" }), browse = h("span", { class: "mn-cv-browse" }, back, at, on);
  const panel = answerPanel({ actions: h("div", { class: "mn-cv-actions" }, pin, again, copy, browse) });
  const name = onChange((it) => it.label, (label) => {
    for (const box of panel.element.querySelectorAll(".mn-think pre")) keyboardScrolls(box, `Thinking of ${label}`);
    const named = [[pin, "Pin"], [again, "Ask again"], [copy, "Copy"], [back, "Answer before this one"], [on, "Answer after this one"]];
    for (const [element, what] of named) element.setAttribute("aria-label", `${what}: ${label}`);
  });
  const mark = onChange((it) => it, ([parts, tag, sign]) => panel.instead(parts && parts.length ? marked(parts, tag, sign) : null));
  return {
    id,
    element: panel.element,
    update(it, state) {
      now = it;
      panel.update(it);
      name(it);
      pin.setAttribute("aria-pressed", String(!!it.pinned));
      again.disabled = state.running;
      copy.disabled = !it.html && !it.tail;
      say(at, `${it.at} of ${it.answers}`);
      browse.style.visibility = it.answers > 1 ? "" : "hidden";
      back.disabled = it.at <= 1;
      on.disabled = it.at >= it.answers;
      const diff = state.diff || {}, first = diff.a === id;
      mark([diff.on ? (diff.parts || {})[id] : null, first ? "del" : "ins", first ? "−" : "+"]);
    },
  };
}

// The text as the model wrote it, from the kernel; what is shown of it where no kernel answers.
function copyAnswer(id, model, send, shown, tell) {
  const token = Math.random().toString(36).slice(2);
  let left = true;
  const take = async (text) => {
    if (!left) return;
    left = false;
    model.off("msg:custom", heard);
    tell(await copyText(text));
  };
  const heard = (message) => { if (message && message.kind === "text" && message.token === token) take(message.text); };
  model.on("msg:custom", heard);
  setTimeout(() => take(shown.innerText), 1000);
  send("copy", { panel: id, token });
}
