// What all widgets of mamba_nb share. No library, nothing fetched; everything is drawn from the model's state.
"use strict";

const MARKS = {
  idle: ["○", "quiet"], searching: ["○", "quiet"], waiting: ["○", "quiet"],
  "loading model": ["◐", "info"], "reading prompt": ["◐", "info"], streaming: ["◐", "info"],
  done: ["●", "good"], stopped: ["■", "quiet"], failed: ["✕", "bad"], warning: ["!", "warn"],
};
const ROOT = "mamba-nb mn-widget tex2jax_ignore mathjax_ignore";

// An element: attributes by name, `on...` as listeners, children as text or nodes. Text is never read as HTML.
function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "disabled") element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  put(element, children);
  if (element.classList.contains("mn-widget")) keepKeys(element);
  return element;
}

// A front end's single-key commands ("d d" deletes a cell) stay away while something in a widget has the focus. JupyterLab
// and Notebook look for the attribute from the focused element upwards, and their commands are bound to any `:focus`: so
// the element itself must have it. Saving goes through.
const SUPPRESS = "data-lm-suppress-shortcuts";

function keepKeys(root) {
  root.setAttribute(SUPPRESS, "true");
  root.addEventListener("focusin", (event) => event.target.setAttribute(SUPPRESS, "true"));
}

// Once a page, and on the window: Notebook 7 looks at a key before it has come down to a widget.
const SAVES = Symbol.for("mamba_nb saves");
if (!window[SAVES]) {
  window[SAVES] = true;
  window.addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "s" || !event.target.closest) return;
    if (!event.target.closest(".mamba-nb")) return;
    const held = [event.target, event.target.closest(".mn-widget")].filter((each) => each && each.hasAttribute(SUPPRESS));
    held.forEach((element) => element.removeAttribute(SUPPRESS));
    setTimeout(() => held.forEach((element) => element.setAttribute(SUPPRESS, "true")));
  }, true);
}

function put(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

// HTML that the kernel has cleaned (display/markdown.py), and only that.
function cleaned(html) {
  const box = h("div", { class: "mn-md" });
  box.innerHTML = html;
  for (const wide of box.querySelectorAll("pre, table")) wide.tabIndex = 0; // they scroll, with the keyboard too
  return box;
}

function stateMark(state) {
  const [shape, colour] = MARKS[state] || MARKS.idle;
  return h("span", { class: `mn-mark mn-${colour}`, "aria-hidden": "true" }, shape);
}

function stateWord(state) {
  const mark = stateMark(state);
  mark.style.marginInlineEnd = "4px";
  return h("span", { class: "mn-state" }, mark, state);
}

function notes(list) {
  return h("div", { class: "mn-notes" },
    (list || []).map(([kind, text]) => h("div", {}, stateMark(kind),
      h("span", text.length > 600 ? { tabindex: "0", role: "region", "aria-label": kind } : {}, text))));
}

function errorBox(error) {
  if (!error) return null;
  return h("div", { class: "mn-error", role: "alert" },
    h("div", {}, stateMark("failed"), " ", h("b", {}, error.message)),
    error.hint && h("div", {}, error.hint),
    error.says && h("div", { class: "mn-quiet" }, `The server said: ${error.says}`));
}

function button(label, onclick, options) {
  return h("button", { type: "button", class: options && options.main ? "mn-button mn-main" : "mn-button",
    onclick, disabled: options && options.disabled, title: options && options.title,
    "aria-pressed": options && options.pressed }, label);
}

function labelled(text, control, options) {
  const id = `mn-${Math.random().toString(36).slice(2, 10)}`;
  control.id = id;
  return h("div", { class: "mn-field" }, h("label", { for: id, class: options && options.hidden ? "mn-hidden" : null }, text), control);
}

// Says something to a screen reader, at most once in two seconds, so that a growing answer does not chatter.
function announcer() {
  const box = h("div", { class: "mn-hidden", role: "status", "aria-live": "polite" });
  let last = "", at = 0, timer = 0;
  return {
    box,
    say(text) {
      if (text === last) return;
      last = text;
      clearTimeout(timer);
      timer = setTimeout(() => { at = Date.now(); box.textContent = last; }, Math.max(0, at + 2000 - Date.now()));
    },
  };
}

// One live copy of what a model shows, for all its views: the synced state, and deltas on top of it. `initialize` makes
// it; what a view listens to ends with the view.
const COPIES = [];
const ASK_AGAIN_MS = 1000;

function live(model) {
  // Each view gets a wrapper of its own around the model, but all of them get one and the same state out of it.
  const known = COPIES.find((copy) => copy.model.get("state") === model.get("state"));
  if (known) return known;
  const copy = { model, state: structuredClone(model.get("state") || {}), views: new Set(), asked: 0, gone: false };
  COPIES.push(copy);
  model.on("change:state", () => {
    const state = structuredClone(model.get("state") || {});
    copy.asked = 0;
    if ((state.n || 0) < (copy.state.n || 0) && state.run === copy.state.run) return; // older than what is shown
    copy.state = state;
    copy.gone = false;
    repaint(copy, null);
  });
  model.on("msg:custom", (message) => { if (message && message.kind === "delta") add(copy, message); });
  model.on("destroy", () => COPIES.splice(COPIES.indexOf(copy), 1));
  return copy;
}

function repaint(copy, what) {
  copy.views.forEach((view) => view(copy.state, what));
}

function add(copy, message) {
  if (message.n !== (copy.state.n || 0) + 1 || message.run !== copy.state.run) {
    // A gap: ask for the whole, and again where nothing has come of it.
    if (Date.now() - copy.asked > ASK_AGAIN_MS) { copy.asked = Date.now(); tell(copy.model, { do: "whole" }); }
    return;
  }
  copy.state.n = message.n;
  for (const [index, change] of Object.entries(message.panels || {})) grow(copy.state.panels[index], change);
  Object.assign(copy.state, message.set || {});
  repaint(copy, message);
}

// A message to the kernel; where none stands behind the view, `kernelNote` says so, and nothing is thrown.
function tell(model, message) {
  try { model.send(message); } catch (_) { /* the connection is closed */ }
}

// Says that nobody answers any more, where the kernel has gone from behind a view; what was under way is stopped then.
const GONE = "No kernel stands behind this view: what is here stays, and nothing more comes. Run the cell to begin again.";

function kernelNote(model, el) {
  const copy = live(model), box = h("div", { role: "status" });
  let lost = false;
  const look = () => {
    // A view that is made later is marked by the front end.
    const gone = lost || !!el.closest(".jupyter-widgets-disconnected");
    box.replaceChildren(gone ? notes([["warning", GONE]]) : "");
    if (gone === copy.gone) return;
    copy.gone = gone;
    copy.state = gone ? halted(copy.state) : structuredClone(model.get("state") || {});
    repaint(copy, null);
  };
  model.on("comm_live_update", () => { lost = true; look(); }); // a connection that is lost never comes back
  look();
  return box;
}

function halted(state) {
  const panels = (state.panels || []).map((panel) => (OVER.includes(panel.state) ? panel : { ...panel, state: "stopped" }));
  return { ...state, panels, running: false, gone: true };
}

const GROWING = ["html", "tail", "reasoning"];

function grow(panel, change) {
  if (!panel) return;
  Object.assign(panel, change.set || {});
  for (const name of GROWING) {
    if (name in change) panel[name] = change[name];
    if (`${name}+` in change) panel[name] = (panel[name] || "") + change[`${name}+`];
  }
}

// Draws with `draw(state, what)` now and after every change, at most once a frame, until the view is gone. `what` is the
// delta where it is all that has changed.
function watch(model, draw) {
  const copy = live(model);
  let waiting = null, frame = 0;
  const paint = () => { frame = 0; const now = waiting; waiting = null; draw(copy.state, now); };
  const view = (state, what) => {
    waiting = waiting && what ? "several" : what || "all";
    if (!frame) frame = requestAnimationFrame(paint);
  };
  copy.views.add(view);
  draw(copy.state, "all");
  return () => { copy.views.delete(view); cancelAnimationFrame(frame); };
}

// Text that grows is appended to: a reader's selection stays, and nothing is laid out that was there before.
function growingText(box) {
  const node = document.createTextNode("");
  box.append(node);
  return (text) => {
    if (text === node.data) return;
    if (node.data && text.startsWith(node.data)) node.appendData(text.slice(node.data.length));
    else node.data = text;
  };
}

function growingHtml(box) {
  let shown = "";
  return (html) => {
    if (html === shown) return;
    if (shown && html.startsWith(shown)) box.append(...cleaned(html.slice(shown.length)).childNodes);
    else box.replaceChildren(...cleaned(html).childNodes);
    shown = html;
  };
}

const OVER = ["idle", "done", "stopped", "failed"];

// One panel with a growing answer. `update(panel)` touches only what has changed, so that a reader's selection, scroll
// position and open folds stay as they are; `instead(node)` shows something else than the answer, until `instead(null)`.
function answerPanel(options) {
  const name = h("div", { class: "mn-name" }), state = h("div", {});
  const figures = h("div", { class: "mn-figures" });
  const prompt = h("div", { class: "mn-prompt" });
  const thinking = h("summary", {}, "thinking"), thoughts = h("pre", { class: "mn-text", dir: "auto", tabindex: "0" });
  const think = h("details", { class: "mn-think" }, thinking, thoughts);
  const done = h("div", { class: "mn-md", dir: "auto" }), tail = h("div", { class: "mn-tail", dir: "auto" });
  const empty = h("div", { class: "mn-quiet" }, "No visible text came.");
  const calls = h("div", {}), answer = h("div", {}, done, tail, empty, calls);
  const box = h("div", { class: "mn-answer", tabindex: "0", role: "region" }, answer);
  const below = h("div", {});
  // The whole edge has the model's colour, pale; what is done of it is full.
  const share = h("div", {}), pale = "width:100%;background:color-mix(in srgb, var(--mn-model) 30%, transparent)";
  const bar = h("div", { class: "mn-bar", "aria-hidden": "true", style: pale }, share);
  const element = h("section", { class: "mn-panel mn-live" }, bar,
    h("div", { class: "mn-head" }, name, state), figures, prompt, h("div", {}, think), box, below, (options && options.actions) || null);
  const sayHtml = growingHtml(done), sayTail = growingText(tail), sayThoughts = growingText(thoughts);
  const shown = {};
  let follow = true, over = true;
  box.addEventListener("scroll", () => { follow = box.scrollHeight - box.scrollTop - box.clientHeight < 24; }, { passive: true });
  const changed = (key, value) => { const text = JSON.stringify(value); if (shown[key] === text) return false; shown[key] = text; return true; };
  return {
    element,
    answer,
    instead(node) {
      if (node) box.replaceChildren(node);
      else if (!answer.isConnected) box.replaceChildren(answer);
    },
    update(panel) {
      if (changed("name", [panel.label, panel.server, panel.colour])) {
        name.replaceChildren(h("b", {}, h("bdi", {}, panel.label)), panel.server ? h("span", { class: "mn-quiet" }, ` · ${panel.server}`) : "");
        element.className = `mn-panel mn-live ${panel.colour}`;
        element.setAttribute("aria-label", `Answer of ${panel.label}`);
        box.setAttribute("aria-label", `Text of ${panel.label}`);
      }
      if (changed("state", panel.state)) state.replaceChildren(stateWord(panel.state));
      if (changed("figures", [panel.figures, panel.context]))
        figures.replaceChildren(...(panel.figures || []).map((f) => h("span", { title: f.says }, f.name ? `${f.name} ` : "", h("b", {}, f.value))),
          panel.context ? h("span", { class: "mn-end", title: "tokens of context in force" }, `ctx ${panel.context}`) : "");
      if (changed("prompt", [panel.prompt, panel.number, panel.total]))
        prompt.replaceChildren(h("div", { dir: "auto" }, panel.total > 1 && panel.number ? `${panel.number} of ${panel.total}: ` : "", panel.prompt || ""));
      const another = changed("answer", [panel.prompt, panel.number, panel.at]);
      if (changed("thinking", panel.thinking)) thinking.textContent = panel.thinking ? `thinking (${panel.thinking})` : "thinking";
      think.hidden = !panel.reasoning;
      sayThoughts(panel.reasoning || "");
      sayHtml(panel.html || "");
      sayTail(panel.tail || "");
      empty.hidden = !panel.empty;
      if (changed("calls", panel.calls))
        calls.replaceChildren(...(panel.calls || []).map((c) => h("details", { class: "mn-callcard" },
          h("summary", {}, "calls ", h("code", {}, c.name)), h("pre", { class: "mn-text" }, c.arguments),
          c.result ? h("pre", { class: "mn-text mn-quiet" }, c.result) : null)));
      if (changed("notes", panel.notes)) below.replaceChildren(notes(panel.notes));
      if (changed("bar", [panel.ended, panel.total])) share.style.width = `${panel.total ? (100 * panel.ended) / panel.total : 0}%`;
      // It follows the end while it grows; another answer begins at its top.
      const was = over;
      over = OVER.includes(panel.state);
      if (another && over && was) { box.scrollTop = 0; follow = true; }
      else if (follow && !(over && was)) box.scrollTop = box.scrollHeight;
    },
  };
}

// What a screen reader is told of panels: what has become of each, not every step of it.
function endedWords(panels) {
  const ended = panels.filter((panel) => panel.total && panel.ended >= panel.total);
  return ended.map((panel) => `${panel.label}: ${panel.state}`).join(", ");
}

// Text to the clipboard, with the old way where the page may not use the new one.
async function copyText(text) {
  try { await navigator.clipboard.writeText(text); return true; } catch (_) { /* not a secure page */ }
  const area = h("textarea", { value: text, style: "position:fixed;opacity:0" });
  document.body.append(area);
  area.select();
  const ok = document.execCommand("copy");
  area.remove();
  return ok;
}
