// A chat with one model. The kernel holds the conversation; what is being typed, and which question is being edited,
// belongs to the view alone.
const PATIENT_MS = 1500;
const KERNEL_BUSY = "The kernel is busy with a cell, and hears of this when that is over.";
const LONG = 400;  // characters of a question that may have to be scrolled
const NEAR_END = 24;  // pixels from the end within which a reader follows what grows

function token() { return Math.random().toString(36).slice(2, 12); }

function callCard(call) {
  const state = call.state || "stopped";
  const mark = { running: "streaming", done: "done", failed: "failed", stopped: "idle" }[state] || "idle";
  const word = { running: "running", done: "returned", failed: "failed", stopped: "no result" }[state] || state;
  return h("details", { class: "mn-callcard" },
    h("summary", {}, "calls ", h("code", {}, call.name), " ",
      h("span", { class: "mn-state mn-quiet" }, stateMark(mark), ` ${word}`, call.took ? ` in ${call.took}` : "")),
    h("div", { class: "mn-quiet" }, "arguments"), h("pre", { class: "mn-text", tabindex: "0" }, call.arguments || "none"),
    call.result !== null && call.result !== undefined && h("div", { class: "mn-quiet" }, state === "failed" ? "error" : "result"),
    call.result !== null && call.result !== undefined && h("pre", { class: "mn-text", tabindex: "0" }, call.result === "" ? "empty" : call.result));
}

// One question.
function questionView(chat, panel) {
  const edit = button("Edit", () => chat.edit(panel));
  const element = h("article", { class: "mn-turn mn-asked", "aria-label": "Your question" },
    h("div", { class: "mn-head" }, h("div", { class: "mn-name" }, h("b", {}, "You")), edit),
    h("div", { class: "mn-words", dir: "auto", tabindex: panel.text.length > LONG ? "0" : null }, panel.text),
    panel.images ? h("div", { class: "mn-quiet mn-small" }, panel.images === 1 ? "with 1 image" : `with ${panel.images} images`) : null);
  return { element, update(_panel, state) { edit.disabled = state.running; } };
}

// One answer, or one step of an agent's. It touches only what has changed, so that selections and folds stay.
function answerView(chat, panel) {
  const name = h("div", { class: "mn-name" }), state = h("div", {}), figures = h("div", { class: "mn-figures" });
  const again = button("Ask again", () => chat.send({ do: "retry" }));
  const copy = button("Copy", () => chat.copy("answer", panel.turn));
  const thinking = h("summary", {}, "thinking"), thoughts = h("pre", { class: "mn-text", dir: "auto", tabindex: "0" });
  const think = h("details", { class: "mn-think" }, thinking, thoughts);
  const done = h("div", { class: "mn-md", dir: "auto" }), tail = h("div", { class: "mn-tail", dir: "auto" });
  const sayHtml = growingHtml(done), sayTail = growingText(tail), sayThoughts = growingText(thoughts);
  const calls = h("div", {}), below = h("div", {}), failure = h("div", {});
  const element = h("article", { class: "mn-turn mn-answered mn-c0" },
    h("div", { class: "mn-head" }, name, state, figures, h("div", { class: "mn-tools" }, again, copy)),
    think, done, tail, calls, failure, below);
  const shown = {};
  const changed = (key, value) => { const text = JSON.stringify(value); if (shown[key] === text) return false; shown[key] = text; return true; };
  return {
    element,
    update(panel, whole) {
      if (changed("name", [panel.label, panel.step])) {
        name.replaceChildren(panel.step > 1 ? h("span", { class: "mn-quiet" }, `step ${panel.step}`) : h("b", {}, panel.label));
        element.setAttribute("aria-label", panel.step > 1 ? `Step ${panel.step} of ${panel.label}` : `Answer of ${panel.label}`);
      }
      const word = panel.calling ? "calling" : panel.state;
      if (changed("state", word))
        state.replaceChildren(panel.calling ? h("span", { class: "mn-state" }, stateMark("streaming"), " calling") : stateWord(word));
      if (changed("figures", panel.figures))
        figures.replaceChildren(...(panel.figures || []).map((f) => h("span", { title: f.says }, f.name ? `${f.name} ` : "", h("b", {}, f.value))));
      if (changed("thinking", panel.thinking)) thinking.textContent = panel.thinking ? `thinking (${panel.thinking})` : "thinking";
      think.hidden = !panel.reasoning;
      sayThoughts(panel.reasoning || "");
      sayHtml(panel.html || "");
      sayTail(panel.tail || "");
      done.hidden = !panel.html;
      tail.hidden = !panel.tail;
      if (changed("calls", panel.calls)) {
        const open = [...calls.children].map((card) => card.open);
        calls.replaceChildren(...(panel.calls || []).map(callCard));
        open.forEach((was, place) => { if (was && calls.children[place]) calls.children[place].open = true; });
      }
      if (changed("error", [panel.error, panel.empty]))
        failure.replaceChildren(...[errorBox(panel.error),
          panel.empty && h("div", { class: "mn-notes" }, h("div", {}, stateMark("warning"), h("span", {}, panel.empty)))].filter(Boolean));
      if (changed("notes", panel.notes)) below.replaceChildren(notes(panel.notes));
      const last = whole.panels[whole.panels.length - 1] === panel && whole.again;
      again.textContent = whole.again === "Retry" && last ? "Retry" : "Ask again";
      // They keep their place, so that nothing moves when an answer ends.
      again.classList.toggle("mn-away", !last);
      copy.classList.toggle("mn-away", !(panel.html || panel.tail) || whole.running && last);
    },
  };
}

// The field where a question is typed, with Send, and Stop in its place.
function composer(chat) {
  const local = { editing: null, waiting: null, timer: 0 };
  const field = h("textarea", { rows: 2, placeholder: "Enter sends, Shift+Enter breaks the line", spellcheck: "true" });
  const go = button("Send", () => (chat.state().running ? stop() : submit()), { main: true });
  const told = h("span", {});
  const cancel = button("Cancel edit", () => leave());
  const banner = h("div", { class: "mn-editing", hidden: true }, told, cancel);
  const element = h("div", { class: "mn-composer" }, banner,
    h("div", { class: "mn-say" }, labelled("Message", field, { hidden: true }), go));

  function patience(since) {
    clearTimeout(local.timer);
    local.timer = setTimeout(() => { if (since()) chat.say(KERNEL_BUSY); }, PATIENT_MS);
  }

  function stop() {
    chat.send({ do: "stop" });
    patience(() => chat.state().running);
  }

  function submit() {
    if (local.waiting || chat.state().running) return;
    if (!field.value.trim()) { field.focus(); return; }
    local.waiting = token();
    chat.send({ do: "send", text: field.value, token: local.waiting, system: chat.system(), turn: local.editing });
    const mine = local.waiting;
    patience(() => local.waiting === mine);
    update(chat.state());
  }

  function leave() {
    if (local.editing === null) return;
    local.editing = null;
    field.value = "";
    update(chat.state());
    field.focus();
  }

  function edit(panel) {
    if (chat.state().running) return;
    local.editing = panel.turn;
    field.value = panel.raw !== undefined ? panel.raw : panel.text;
    update(chat.state());
    field.focus();
    field.setSelectionRange(field.value.length, field.value.length);
  }

  function update(state) {
    if (state.gone) local.waiting = null; // nobody will say that it came
    if (local.waiting && state.heard && state.heard[0] === local.waiting) {
      if (state.heard[1]) { field.value = ""; local.editing = null; }
      local.waiting = null;
    }
    const asked = state.panels.filter((panel) => panel.kind === "question");
    const place = asked.findIndex((panel) => panel.turn === local.editing);
    if (local.editing !== null && place < 0 && !local.waiting) local.editing = null; // it went, in another view
    banner.hidden = place < 0;
    told.textContent = place + 1 < asked.length
      ? `Editing question ${place + 1} of ${asked.length}. Sending it takes away what came after it.`
      : `Editing question ${place + 1}. Sending it takes away its answer.`;
    go.textContent = state.running ? "Stop" : local.waiting ? "Sending" : "Send";
    go.disabled = Boolean(state.gone) || (!state.running && local.waiting !== null);
    go.classList.toggle("mn-main", !state.running);
    field.readOnly = local.waiting !== null;
  }

  field.addEventListener("keydown", (event) => {
    const alone = !event.shiftKey && !event.ctrlKey && !event.altKey && !event.metaKey;
    if (event.key === "Enter" && alone && !event.isComposing) {
      event.preventDefault();
      submit();
    } else if (event.key === "ArrowUp" && alone && !field.value) {
      const asked = chat.state().panels.filter((panel) => panel.kind === "question");
      if (asked.length) { event.preventDefault(); edit(asked[asked.length - 1]); }
    }
  });
  return { element, update, edit, leave, stop, editing: () => local.editing !== null, end: () => clearTimeout(local.timer) };
}

// The buttons below, and what the clipboard was given.
function actions(chat) {
  const undo = button("Undo", () => chat.send({ do: "undo" }));
  const clear = button("Start over", () => chat.send({ do: "clear" }));
  const said = h("span", { class: "mn-quiet mn-small", role: "status" });
  const byHand = h("textarea", { rows: 6, readonly: true });
  const box = h("div", { hidden: true }, labelled("The browser kept the clipboard to itself: copy it from here", byHand));
  const element = h("div", {}, h("div", { class: "mn-actions" }, undo, clear,
    button("Copy as messages", () => chat.copy("messages")), button("Copy as code", () => chat.copy("code")), said), box);
  let wanted = null, timer = 0;
  return {
    element,
    want(value) { wanted = value; },
    say(text) { said.textContent = text; clearTimeout(timer); timer = setTimeout(() => { said.textContent = ""; }, 4000); },
    end() { clearTimeout(timer); },
    async take(message) {
      if (message.token !== wanted) return;  // another view asked
      const ok = await copyText(message.text);
      const what = { code: "Copied as code", messages: "Copied as messages", answer: "Copied the answer" }[message.what] || "Copied";
      this.say(ok ? `${what}.` : "");
      box.hidden = ok;
      byHand.value = ok ? "" : message.text;
      if (!ok) byHand.select();
    },
    update(state) {
      undo.disabled = !state.undo;
      undo.title = state.undo ? `Undo: ${state.undo}` : "Nothing to undo";
      clear.disabled = !state.panels.length;
    },
  };
}

function usedView() {
  const known = (value, why) => (value ? h("b", {}, value) : h("b", { title: why }, "–"));
  const element = h("div", { class: "mn-used" });
  let shown = "";
  return {
    element,
    update(used) {
      if (shown === JSON.stringify(used)) return;
      shown = JSON.stringify(used);
      const full = used.share !== null && used.share > 0.8;
      element.replaceChildren(
        h("span", { title: "tokens of the last prompt and its answer, by the server's count, of the context in force" },
          full ? stateMark("warning") : null, "context ", known(used.used, used.why), " of ",
          known(used.window, "the server does not say how much context is in force"), " tokens"),
        full ? h("span", {}, `, ${Math.round(100 * used.share)} % full`) : "");
    },
  };
}

export default {
  initialize({ model }) { live(model); },
  render({ model, el }) {
    const copy = live(model);
    const system = h("textarea", { rows: 3, value: copy.state.system || "" });
    const excerpt = h("span", { class: "mn-quiet" });
    const chat = {
      state: () => copy.state,
      send: (message) => tell(model, message),
      system: () => system.value,
      edit: (panel) => field.edit(panel),
      say: (text) => below.say(text),
      copy(what, turn) { const mine = token(); below.want(mine); tell(model, { do: "copy", what, turn, token: mine }); },
    };
    const title = h("div", { class: "mn-name" }), used = usedView(), voice = announcer();
    const field = composer(chat), below = actions(chat);
    const fold = h("details", { class: "mn-fold mn-system" }, h("summary", {}, "System prompt", excerpt),
      labelled("System prompt", system, { hidden: true }));
    const empty = h("div", { class: "mn-quiet mn-nothing" }, "Nothing asked yet.");
    const log = h("div", { class: "mn-log", tabindex: "0", role: "region", "aria-label": "Conversation" }, empty);
    const failure = h("div", {});
    const root = h("div", { class: `${ROOT} mn-chat` }, kernelNote(model, el),
      h("div", { class: "mn-head mn-top" }, title, used.element), fold, log, failure, field.element, below.element, voice.box);
    el.append(root);

    system.addEventListener("change", () => tell(model, { do: "system", text: system.value }));
    root.addEventListener("keydown", (event) => {
      // What is typed here is not a shortcut of the notebook.
      event.stopPropagation();
      if (event.key !== "Escape") return;
      if (field.editing()) field.leave();
      else if (copy.state.running) field.stop();
      else return;
      event.preventDefault();
    });
    let follow = true;
    log.addEventListener("scroll", () => { follow = log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_END; });
    const onCopy = (message) => { if (message && message.kind === "copy") below.take(message); };
    model.on("msg:custom", onCopy);

    const views = [];
    let about = "", error = "", count = 0;
    function entries(state, what) {
      const list = state.panels;
      const key = (panel) => `${panel.kind} ${panel.turn} ${panel.step || 0}`;
      let same = 0;
      while (same < views.length && same < list.length && views[same].key === key(list[same])) same += 1;
      while (views.length > same) views.pop().element.remove();
      for (const panel of list.slice(same)) {
        const view = panel.kind === "question" ? questionView(chat, panel) : answerView(chat, panel);
        views.push({ ...view, key: key(panel) });
        log.append(view.element);
      }
      const touched = what && what.panels && same === list.length ? Object.keys(what.panels) : [...list.keys()];
      for (const index of touched) if (list[index]) views[index].update(list[index], state);
      empty.hidden = list.length > 0;
      if (list.length > count) follow = true;  // a new question is always brought into sight
      count = list.length;
    }
    const unwatch = watch(model, (state, what) => {
      const it = state.chat;
      if (about !== JSON.stringify(it)) {
        about = JSON.stringify(it);
        title.replaceChildren(h("b", {}, it.label), h("span", { class: "mn-quiet" }, ` · ${it.server}`),
          it.agent ? h("span", { class: "mn-quiet" }, it.tools.length ? ` · agent with ${it.tools.join(", ")}` : " · agent") : "");
        root.setAttribute("role", "group");
        root.setAttribute("aria-label", `Chat with ${it.label}`);
      }
      entries(state, what);
      if (document.activeElement !== system) system.value = state.system;
      excerpt.textContent = state.system ? `: ${state.system.slice(0, 60)}${state.system.length > 60 ? "…" : ""}` : ": none";
      if (error !== JSON.stringify(state.error)) {
        error = JSON.stringify(state.error);
        failure.replaceChildren(...[errorBox(state.error)].filter(Boolean));
      }
      field.update(state);
      below.update(state);
      used.update(state.used);
      const last = state.panels[state.panels.length - 1];
      if (last && last.kind === "answer") voice.say(`${last.label}: ${last.calling ? "calling a tool" : last.state}`);
      if (follow) log.scrollTop = log.scrollHeight;
    });
    return () => { unwatch(); field.end(); below.end(); model.off("msg:custom", onCopy); };
  },
};
