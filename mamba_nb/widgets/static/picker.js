// The picker: one searchable list of models, what goes with a request, a test, and the choice as code.
const COLUMNS = ["memory", "context", "tools", "vision", "quant", "size"];
const MOST_SHOWN = 200;  // of the list's models; typing finds the others

// Text with `code` in backticks.
function worded(text) {
  return (text || "").split("`").map((part, index) => (index % 2 ? h("code", {}, part) : part));
}

// Calls `paint` with these values when they have changed since the last call. What is the very same is not read again:
// a list may have thousands of models.
function when(paint) {
  let seen = [], texts = [];
  return (...values) => {
    const now = values.map((value, place) => (place < seen.length && seen[place] === value ? texts[place] : JSON.stringify(value)));
    const same = texts.length > 0 && now.every((text, place) => text === texts[place]);
    [seen, texts] = [values, now];
    if (!same) paint(...values);
  };
}

// A text field whose text is the kernel's, except while a reader types.
function field(label, attributes, onchange) {
  const input = h("input", { type: "text", autocomplete: "off", spellcheck: "false", ...attributes });
  const problem = h("div", { class: "mn-problem", id: unique() });
  input.addEventListener("change", () => onchange(input.value));
  const element = labelled(label, input);
  element.append(problem);
  return {
    element, input,
    update(value, said) {
      if (!focused(input)) input.value = value;
      problem.replaceChildren(...(said ? [stateMark("failed"), said] : []));
      input.setAttribute("aria-invalid", said ? "true" : "false");
      if (said) input.setAttribute("aria-describedby", problem.id); else input.removeAttribute("aria-describedby");
    },
  };
}

function focused(element) {
  return element.getRootNode().activeElement === element;
}

function unique() {
  return `mn-${Math.random().toString(36).slice(2, 10)}`;
}

// The list that opens below the field, above everything else and as wide as the widget, and follows the field while
// the page is scrolled. An output clips what hangs out of it, so the list is a popover where the browser has them.
function floating(anchor, list) {
  const over = typeof list.showPopover === "function";
  if (over) list.setAttribute("popover", "manual");
  const place = () => {
    const box = anchor.getBoundingClientRect();
    const below = window.innerHeight - box.bottom - 8, above = box.top - 8;
    const up = below < 160 && above > below;
    const whole = (anchor.closest(".mn-picker") || anchor).getBoundingClientRect();
    list.style.left = `${whole.left}px`;
    list.style.width = `${whole.width}px`;
    list.style.maxHeight = `${Math.max(80, Math.min(400, up ? above : below))}px`;
    list.style.top = up ? "auto" : `${box.bottom + 2}px`;
    list.style.bottom = up ? `${window.innerHeight - box.top + 2}px` : "auto";
  };
  return {
    open() {
      list.hidden = false;
      if (!over) return;
      if (!list.matches(":popover-open")) list.showPopover();
      place();
      window.addEventListener("scroll", place, true);
      window.addEventListener("resize", place);
    },
    close() {
      if (over && list.matches(":popover-open")) list.hidePopover();
      list.hidden = true;
      window.removeEventListener("scroll", place, true);
      window.removeEventListener("resize", place);
    },
  };
}

// The models as a combobox: type to filter, arrows to move, Enter to choose, Escape to leave.
function modelChooser(send, giveKey) {
  const id = unique();
  const input = h("input", { type: "text", role: "combobox", autocomplete: "off", spellcheck: "false",
    "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": id, class: "mn-choose" });
  const list = h("div", { role: "listbox", id, "aria-label": "Models", class: "mn-list", hidden: true });
  const arrow = h("span", { class: "mn-arrow", "aria-hidden": "true" }, "▾");
  const box = h("div", { class: "mn-chooser" }, input, arrow);
  input.id = unique();
  const element = h("div", { class: "mn-field mn-model" }, h("label", { for: input.id }, "Model"), box, list);
  const float = floating(box, list);
  let state = {}, open = false, rows = [], active = -1;

  const named = () => (state.chosen ? `${state.chosen.name} · ${state.chosen.title} · ${state.chosen.place}` : "");

  function fill() {
    const words = open && input.value !== named() ? input.value.toLowerCase().split(/\s+/).filter(Boolean) : [];
    const matches = (text) => words.every((word) => text.includes(word));
    rows = [];
    list.replaceChildren();
    let left = 0;
    for (const server of state.servers || []) {
      const models = (state.choices || []).filter((choice) => choice.server === server.id && matches(choice.search));
      const asks = server.state.startsWith("key") && matches(`${server.title} ${server.place} key`.toLowerCase());
      const bare = server.state !== "ready" && !server.state.startsWith("key") &&
        matches(`${server.title} ${server.place}`.toLowerCase());
      if (!models.length && !asks && !bare) continue;
      const head = h("div", { id: unique(), class: "mn-server" }, h("b", {}, server.title),
        ` ${server.version}`, h("span", { class: "mn-quiet" }, ` · ${server.place}`));
      const group = h("div", { role: "group", "aria-labelledby": head.id }, head);
      for (const choice of models) {
        if (rows.length >= MOST_SHOWN) { left += 1; continue; }
        group.append(row(choice));
      }
      if (asks) group.append(keyRow(server));
      if (bare) group.append(bareRow(server));
      list.append(group);
    }
    const offer = state.embedded;
    if (offer && offer.state === "idle" && matches("embedded model without a server")) list.append(embeddedRow(offer));
    if (left) list.append(h("div", { class: "mn-quiet mn-none", role: "option", "aria-disabled": "true" }, `${left.toLocaleString("en")} more: type to find them`));
    if (!list.childElementCount) {
      const nothing = words.length ? `No model has “${input.value}” in its name or its server's` : "No models yet";
      list.append(h("div", { class: "mn-quiet mn-none", role: "option", "aria-disabled": "true" }, nothing));
    } else {
      list.prepend(h("div", { class: "mn-columns", "aria-hidden": "true" }, h("span", {}, "model"),
        COLUMNS.map((name) => h("span", {}, name))));
    }
    activate(rows.findIndex((each) => state.chosen && each.id === state.chosen.id));
  }

  function row(choice) {
    const facts = COLUMNS.map((name) => {
      const fact = choice.facts.find((each) => each.name === name);
      const mark = name === "memory" ? stateMark(choice.mark) : null;
      return h("span", { class: `mn-fact mn-fact-${name}`, title: fact.says },
        h("span", { class: "mn-factname" }, `${name} `), mark, fact.text);
    });
    const where = choice.facts.find((each) => each.name === "where");
    const notes = [choice.disabled, where && where.text].filter(Boolean).join(" · ");
    const element = h("div", { role: "option", id: unique(), class: "mn-option",
      "aria-selected": state.chosen && state.chosen.id === choice.id ? "true" : "false",
      "aria-disabled": choice.disabled ? "true" : null },
      h("span", { class: "mn-optionname" }, h("bdi", {}, choice.name), notes && h("span", { class: "mn-quiet" }, ` · ${notes}`)),
      facts);
    return taken(element, choice.id, choice.disabled ? null : () => send({ do: "choose", choice: choice.id }));
  }

  function keyRow(server) {
    const says = server.state === "key refused" ? "refused its key: give another one" : "asks for a key: give it one";
    const element = h("div", { role: "option", id: unique(), class: "mn-option", "aria-selected": "false" },
      h("span", { class: "mn-optionname" }, stateMark("warning"), says));
    return taken(element, server.id, () => giveKey(server));
  }

  function bareRow(server) {
    const says = server.problems.join(" ") || "It lists no models.";
    const element = h("div", { role: "option", id: unique(), class: "mn-option", "aria-selected": "false", "aria-disabled": "true" },
      h("span", { class: "mn-optionname" }, stateMark(server.state === "loading" ? "loading model" : "warning"), worded(says)));
    return taken(element, server.id, null);
  }

  function embeddedRow(offer) {
    const head = h("div", { id: unique(), class: "mn-server" }, h("b", {}, "Without a server"));
    const element = h("div", { role: "option", id: unique(), class: "mn-option", "aria-selected": "false" },
      h("span", { class: "mn-optionname" }, offer.button, h("span", { class: "mn-quiet" }, ` · ${offer.says}`)));
    return h("div", { role: "group", "aria-labelledby": head.id }, head,
      taken(element, "embedded", () => send({ do: "embedded" })));
  }

  function taken(element, choice, act) {
    const index = rows.length;
    rows.push({ element, id: choice, act });
    element.addEventListener("mousedown", (event) => event.preventDefault());  // the field keeps the focus
    element.addEventListener("click", () => take(index));
    return element;
  }

  function take(index) {
    const chosen = rows[index];
    if (!chosen || !chosen.act) return;
    shut();
    chosen.act();
  }

  function activate(index) {
    active = index;
    rows.forEach((each, place) => each.element.classList.toggle("mn-active", place === index));
    if (index < 0) { input.removeAttribute("aria-activedescendant"); return; }
    const element = rows[index].element;
    input.setAttribute("aria-activedescendant", element.id);
    const top = element.offsetTop, bottom = top + element.offsetHeight;
    if (top < list.scrollTop + 28) list.scrollTop = top - 28;  // below the headings, which stay in sight
    else if (bottom > list.scrollTop + list.clientHeight) list.scrollTop = bottom - list.clientHeight;
  }

  function show() {
    if (open) return;
    open = true;
    input.setAttribute("aria-expanded", "true");
    fill();
    float.open();
    activate(active);
  }

  function shut() {
    open = false;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
    float.close();
    input.value = named();
  }

  input.addEventListener("focus", () => input.select());
  input.addEventListener("click", show);
  arrow.addEventListener("mousedown", (event) => { event.preventDefault(); input.focus(); if (open) shut(); else show(); });
  input.addEventListener("input", () => { show(); fill(); float.open(); activate(rows.length ? rows.findIndex((each) => each.act) : -1); });
  input.addEventListener("blur", () => { if (open) shut(); });
  input.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 }[event.key];
    if (step) {
      event.preventDefault();
      if (!open) { show(); return; }
      if (rows.length) activate(Math.abs(step) > 1 ? Math.max(0, Math.min(rows.length - 1, active + step))
        : (Math.max(active, step > 0 ? -1 : 0) + step + rows.length) % rows.length);
    } else if (event.key === "Enter") {
      event.preventDefault();
      if (open) take(active); else show();
    } else if (event.key === "Escape" && open) {
      event.preventDefault();
      shut();
    }
  });

  return {
    element, input,
    update: when((servers, listed, chosen, embedded) => {
      state = { servers, choices: listed, chosen, embedded };
      if (open) { fill(); float.open(); } else input.value = named();
    }),
    look(searching) { input.placeholder = searching ? "Looking for servers …" : "Choose a model"; },
    close: shut,
  };
}

// The key of one server: it leaves the page once, and the field is empty before the kernel has it. While a key stands in
// the field, it stays the field of that server, whatever else happens: a key must not go to another one.
function keyField(send) {
  const input = h("input", { type: "password", autocomplete: "off", id: unique() });
  const label = h("label", { for: input.id }, "Key");
  const give = button("Give key", sendKey);
  const said = h("div", { class: "mn-said" });
  let latest = null, meant = null;
  function sendKey() {
    const key = input.value;
    input.value = "";
    if (meant && key) send({ do: "key", server: meant, key });
    apply();
  }
  function apply() {
    if (input.value && latest && latest.server !== meant) return;
    meant = latest && latest.server;
    label.textContent = latest ? `Key for ${latest.place}` : "Key";
    input.disabled = give.disabled = !latest;
    const mark = { needed: "warning", refused: "failed", given: "done", checking: "searching" }[latest && latest.state];
    said.replaceChildren(...(mark ? [stateMark(mark), latest.says] : []));
  }
  input.addEventListener("input", () => { if (!input.value) apply(); });
  input.addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); sendKey(); } });
  const element = h("div", { class: "mn-field" }, label, h("div", { class: "mn-with" }, input, give), said);
  return {
    element, input,
    update: when((key) => { latest = key; apply(); }),
    point(server) {  // at once, before the kernel has answered
      input.value = "";
      latest = { server: server.id, place: server.place, state: server.state.replace("key ", ""), says: `${server.place} asks for a key` };
      apply();
      input.focus();
      send({ do: "key_for", server: server.id });
    },
  };
}

function addressField(send) {
  const look = () => send({ do: "look", url: input.value });
  const input = h("input", { type: "text", autocomplete: "off", spellcheck: "false", placeholder: "gpu-box:8000" });
  input.id = unique();
  const said = h("div", { class: "mn-said" });
  input.addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); look(); } });
  const element = h("div", { class: "mn-field" }, h("label", { for: input.id }, "Another address"),
    h("div", { class: "mn-with" }, input, button("Look there", look)), said);
  return {
    element,
    update: when((url) => {
      if (!focused(input)) input.value = url.text;
      const words = { searching: `Looking at ${url.text}`, done: "Its models are in the list" }[url.state];
      said.replaceChildren(...(url.error ? [errorBox(url.error)] : words ? [stateMark(url.state), words] : []));
    }),
  };
}

// Where nothing was found: how to start each server, and one click to the embedded model.
function embeddedOffer(send) {
  const act = button("", () => send({ do: running ? "stop_embedded" : "embedded" }));
  const says = h("div", {}), error = h("div", {}), share = h("div", {});
  const meter = h("div", { class: "mn-meter", role: "progressbar", "aria-label": "Weights fetched", "aria-valuemin": 0, "aria-valuemax": 100 }, share);
  let running = false;
  const element = h("div", { class: "mn-offer" }, meter, act, says, error);
  return {
    element,
    update: when((embedded, main, none) => {
      element.hidden = !none && (embedded.state === "idle" || embedded.state === "done");  // else it is in the list
      running = embedded.state === "waiting" || embedded.state === "loading model";
      const percent = embedded.share === null ? null : Math.round(100 * embedded.share);
      meter.classList.toggle("mn-still", percent === null);  // its room is kept: nothing jumps when it comes
      meter.setAttribute("aria-valuenow", percent || 0);
      share.style.width = `${percent || 0}%`;
      act.textContent = running ? "Stop" : embedded.button;
      act.className = main && !running ? "mn-button mn-main" : "mn-button";
      const mark = embedded.state === "idle" ? null : stateMark(embedded.state);
      says.replaceChildren(...[mark, embedded.says].filter(Boolean));
      error.replaceChildren(...[errorBox(embedded.error)].filter(Boolean));
    }),
  };
}

function emptyHelp() {
  const element = h("div", { class: "mn-help" });
  return {
    element,
    update: when((help, none) => {
      element.replaceChildren();
      put(element, [
        none && help.starts.length ? h("div", {}, h("b", {}, "Start one, then refresh")) : null,
        none && help.starts.length ? h("ul", {}, help.starts.map((start) => h("li", {}, h("b", {}, `${start.title}: `), worded(start.how)))) : null,
        help.advice.map((text) => h("div", {}, worded(text))),
        notes(help.others.map((text) => ["idle", text])),
      ]);
      element.hidden = !element.textContent;
    }),
  };
}

function detailList() {
  const list = h("dl", { class: "mn-details" }), meanings = h("div", { class: "mn-legend" });
  const element = h("div", { hidden: true }, list, meanings);
  return {
    element,
    update: when((details) => {
      element.hidden = !details;
      if (!details) return;
      list.replaceChildren(...details.facts.map((fact) => h("div", { title: fact.says, class: fact.but ? "mn-differs" : null },
        h("dt", {}, fact.label), h("dd", {}, h("b", {}, fact.value),
          h("span", { class: "mn-quiet" }, fact.source || "nobody says"),
          fact.but && h("span", { class: "mn-warn" }, `but ${fact.but}`)))));
      meanings.textContent = details.meanings.join(" · ");
    }),
  };
}

// The choice as lines to copy.
function codeBoxes(say) {
  const box = (title) => {
    const code = h("code", {}), copy = button(`Copy ${title}`, async () => {
      const ok = await copyText(code.textContent);
      copy.textContent = ok ? "Copied" : "Not copied: select it";
      say(copy.textContent);
      setTimeout(() => { copy.textContent = `Copy ${title}`; }, 2000);
    });
    return { code, element: h("div", { class: "mn-codebox" }, h("div", { class: "mn-with" }, h("b", {}, title), copy),
      h("pre", { tabindex: "0", role: "region", "aria-label": `The choice as ${title}` }, code)) };
  };
  const python = box("Python"), env = box(".env");
  const inside = h("div", { class: "mn-codes", hidden: true, id: unique() }, python.element, env.element);
  const toggle = button("Copy as code", () => {
    inside.hidden = !inside.hidden;
    toggle.setAttribute("aria-expanded", String(!inside.hidden));
  });
  toggle.setAttribute("aria-expanded", "false");
  toggle.setAttribute("aria-controls", inside.id);
  return {
    toggle, element: inside,
    update: when((code) => {
      toggle.disabled = !code;
      if (!code) inside.hidden = true;
      python.code.textContent = code ? code.python : "";
      env.code.textContent = code ? code.env : "";
    }),
  };
}

export default {
  initialize({ model }) { live(model); },
  render({ model, el }) {
    const send = (message) => tell(model, message);
    const voice = announcer();
    const key = keyField(send), address = addressField(send);
    const chooser = modelChooser(send, key.point);
    const refresh = button("Refresh", () => send({ do: "refresh" }));
    const status = h("div", { class: "mn-status" }), errors = h("div", {});
    const help = emptyHelp(), embedded = embeddedOffer(send), details = detailList(), codes = codeBoxes(voice.say);
    const numbers = {};
    for (const [name, label, unit] of [["temperature", "Temperature"], ["max_tokens", "Max tokens"], ["timeout", "Timeout, s"]])
      numbers[name] = field(label, { inputmode: "decimal", class: "mn-number", placeholder: unit || "server's own" },
        (value) => send({ do: "set", name, value }));
    const prompt = h("input", { type: "text", autocomplete: "off" });
    let running = false, edited = false;
    const act = button("Test", () => send(running ? { do: "stop" } : { do: "test", prompt: prompt.value }), { main: true });
    act.classList.add("mn-act");
    prompt.addEventListener("input", () => { edited = true; });
    prompt.addEventListener("keydown", (event) => { if (event.key === "Enter" && !running && !act.disabled) act.click(); });
    const panel = answerPanel();
    const answer = h("div", { class: "mn-grid", hidden: true }, panel.element);
    const test = h("div", { class: "mn-field mn-wide" });
    prompt.id = unique();
    test.append(h("label", { for: prompt.id }, "Test prompt"), h("div", { class: "mn-with" }, prompt, act));
    const root = h("div", { class: `${ROOT} mn-picker`, role: "group", "aria-label": "Backend picker" },
      kernelNote(model, el),
      h("div", { class: "mn-line" }, chooser.element, refresh, codes.toggle),
      status, codes.element, errors, help.element, embedded.element,
      h("div", { class: "mn-line mn-fields" }, address.element, key.element,
        h("div", { class: "mn-numbers" }, numbers.temperature.element, numbers.max_tokens.element, numbers.timeout.element)),
      test, answer, details.element, voice.box);  // last what comes by itself: nothing to press is moved by it
    el.append(root);

    const drawStatus = when((said, note) => status.replaceChildren(stateMark(said.mark), said.text,
      ...(note ? [h("div", {}, stateMark("warning"), note)] : [])));
    const drawError = when((error) => errors.replaceChildren(...[errorBox(error)].filter(Boolean)));
    const stop = watch(model, (state, what) => {
      if (what && what.panels && !what.set) { panel.update(state.panels[0]); say(state); return; }
      const none = state.search === "none found";
      chooser.look(state.search === "searching");
      chooser.update(state.servers, state.choices, state.chosen, state.embedded);
      drawStatus(state.status, state.note);
      drawError(state.error);
      help.update(state.help, none);
      embedded.update(state.embedded, none && !state.chosen, none);
      key.update(state.key);
      address.update(state.url);
      for (const name of Object.keys(numbers)) numbers[name].update(state.fields[name], state.problems[name]);
      numbers.timeout.input.placeholder = state.silence;
      if (!edited || !focused(prompt)) prompt.value = state.prompt;
      running = state.running;
      act.textContent = running ? "Stop" : "Test";
      const wrong = Object.keys(state.problems).length > 0;
      act.disabled = !running && (!state.chosen || wrong);
      act.title = wrong ? "Mend the marked field first" : state.chosen ? "" : "Choose a model first";
      act.classList.toggle("mn-main", !(none && !state.chosen));
      answer.hidden = !state.panels.length;
      if (state.panels.length) panel.update(state.panels[0]);
      details.update(state.details);
      codes.update(state.code);
      say(state);
    });
    function say(state) {
      const parts = [state.status.text];
      if (state.panels.length) parts.push(`Test: ${state.panels[0].state}`);
      if (state.key && state.key.says) parts.push(state.key.says);
      if (state.embedded.state !== "idle" && state.embedded.state !== "waiting") parts.push(state.embedded.says);
      voice.say(parts.join(". "));
    }
    return () => { stop(); chooser.close(); };
  },
};
