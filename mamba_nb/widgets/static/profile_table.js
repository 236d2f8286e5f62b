// A table of models' profiles: choose, filter, sort, look at the evidence, probe. The kernel holds the truth; open
// menus and what is half typed belong to this view alone.

const FLAGS = [
  ["tools", "tools"], ["parallel_tools", "parallel tools"], ["vision", "vision"], ["json_object", "JSON object"],
  ["json_schema", "JSON schema"], ["reasoning", "reasoning"], ["embeddings", "embeddings"], ["local", "local"],
];
const LIMITS = [
  ["min_context", "min context, tokens", 1024], ["min_output", "min output, tokens", 1024],
  ["max_price_usd", "max USD / M tok", "any"], ["max_size_gb", "max size, GB", "any"],
];
const AGES = [[86400, "d"], [3600, "h"], [60, "min"]];
const OLDER_MS = 20000;  // how often the ages are said anew

function age(at) {
  const seconds = Date.now() / 1000 - at;
  for (const [size, unit] of AGES) if (seconds >= size) return `${Math.floor(seconds / size)} ${unit} ago`;
  return "just now";
}

function moment(at) {
  const when = new Date(at);
  return at.length > 10 && !Number.isNaN(when.getTime()) ? `${when.toISOString().slice(0, 19).replace("T", " ")} UTC` : at;
}

// Text with `code` in backticks.
function worded(text) {
  return (text || "").split("`").map((part, index) => (index % 2 ? h("code", {}, part) : part));
}

// Replaces what an element holds, and keeps the keyboard's place: the control with the same name gets the focus back.
function refill(element, ...children) {
  const active = element.contains(element.ownerDocument.activeElement) ? element.ownerDocument.activeElement : null;
  const name = active && active.dataset.name;
  element.replaceChildren();
  put(element, children);
  if (!active) return;
  const same = name && [...element.querySelectorAll("[data-name]")].find((each) => each.dataset.name === name && !each.disabled);
  const next = same || element.querySelector("button:not(:disabled), input, select");
  if (next) next.focus();
}

function named(control, name) {
  control.dataset.name = name;
  return control;
}

// A button that shows and hides a panel. Escape in the panel hides it again.
function disclosure(label, panel) {
  const control = h("button", { type: "button", class: "mn-button", "aria-expanded": "false", onclick: () => turn() }, label);
  panel.id = `mn-${Math.random().toString(36).slice(2, 10)}`;
  panel.hidden = true;
  control.setAttribute("aria-controls", panel.id);
  function turn() {
    panel.hidden = !panel.hidden;
    control.setAttribute("aria-expanded", String(!panel.hidden));
  }
  panel.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !panel.hidden) { event.stopPropagation(); turn(); control.focus(); }
  });
  return control;
}

// What a planned probe asks about. The reader's ticks go to the kernel, which says what that would take.
function probeMenu(send) {
  const boxes = h("div", { class: "mn-choices" }), legend = h("legend", {});
  const ticks = () => [...boxes.querySelectorAll("input")];
  const say = () => send("choose", { model, names: ticks().filter((box) => box.checked).map((box) => box.value) });
  const all = (on) => () => { ticks().forEach((box) => { box.checked = on; }); say(); };
  const panel = h("fieldset", { class: "mn-menu mn-probe-menu" }, legend, boxes,
    h("div", { class: "mn-row-actions" }, button("All", all(true)), button("None", all(false))));
  let model = "", shown = "";
  return {
    panel,
    update(row, choice) {
      model = row.key;
      legend.textContent = `What to ask ${row.label}`;
      if (shown !== (shown = JSON.stringify(choice.map((each) => [each.name, each.known])))) {
        boxes.replaceChildren(...choice.map((each) => h("label", {},
          h("input", { type: "checkbox", value: each.name, onchange: say }), h("span", {}, each.title, each.known ? h("span", { class: "mn-quiet" }, " · known") : null))));
      }
      const on = new Set(choice.filter((each) => each.on).map((each) => each.name));
      ticks().forEach((box) => { box.checked = on.has(box.value); });
    },
  };
}

function adding(send) {
  const list = h("datalist", { id: `mn-${Math.random().toString(36).slice(2, 10)}` });
  const input = h("input", { type: "text", list: list.id, autocomplete: "off", spellcheck: "false",
    placeholder: "gpt-4o, ollama:llama3.2", size: 24 });
  const take = () => {
    if (input.value.trim()) send("add", { name: input.value });
    input.value = "";
    input.focus();
  };
  // Not a form: front ends have ideas of their own about Enter in one.
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.isComposing) { event.preventDefault(); event.stopPropagation(); take(); }
  });
  const form = h("div", { class: "mn-add" }, labelled("Add a model by name", input, { hidden: true }), list, button("Add", take));
  let shown = "";
  return {
    form, input,
    update(names) {
      if (shown === (shown = JSON.stringify(names))) return;
      list.replaceChildren(...(names || []).map((name) => h("option", { value: name })));
    },
  };
}

function fieldsMenu(send) {
  const boxes = h("div", { class: "mn-choices" });
  const auto = button("What is worth showing", () => send("fields", { fields: null }), { title: "No column that says nothing" });
  const panel = h("fieldset", { class: "mn-menu" }, h("legend", {}, "Columns"), boxes, auto);
  return {
    panel,
    update(menu, isAuto) {
      auto.disabled = isAuto;
      const chosen = () => [...boxes.querySelectorAll("input:checked")].map((box) => box.value);
      refill(boxes, menu.map((each) => h("label", {}, named(h("input", { type: "checkbox", value: each.field, checked: each.on,
        onchange: () => send("fields", { fields: chosen() }) }), each.field), each.title)));
    },
  };
}

function filterMenu(send) {
  const controls = {};
  const answer = (name) => (event) => {
    const value = event.target.value;
    send("filter", { name, value: value === "yes" ? true : value === "no" ? false : value === "keep" ? "keep" : null });
  };
  const option = (value, text) => h("option", { value }, text);
  const flags = FLAGS.map(([name, title]) => labelled(title, controls[name] = h("select", { onchange: answer(name) },
    option("", "any"), option("yes", "yes"), option("no", "no"))));
  const limits = LIMITS.map(([name, title, step]) => labelled(title, controls[name] = h("input", { type: "number", min: 0, step,
    onchange: (event) => send("filter", { name, value: event.target.value === "" ? null : Number(event.target.value) }) })));
  const unknown = labelled("where it is not known", controls.unknown = h("select", { onchange: answer("unknown") },
    option("", "leave out"), option("keep", "keep")));
  const clear = button("Clear filter", () => send("clear_filter"));
  const panel = h("fieldset", { class: "mn-menu" }, h("legend", {}, "Keep the models that have"),
    h("div", { class: "mn-filters" }, flags, limits, unknown), clear);
  return {
    panel,
    update(filters) {
      for (const [name, control] of Object.entries(controls)) {
        const value = filters[name];
        const shown = value === true ? "yes" : value === false ? "no" : value === undefined ? "" : String(value);
        if (control !== control.ownerDocument.activeElement || control.tagName === "SELECT") control.value = shown;
      }
      clear.disabled = !Object.keys(filters).length;
    },
  };
}

function heading(column, send) {
  const arrow = { ascending: "▲", descending: "▼" }[column.order] || "";
  const mark = h("i", { class: "mn-arrow", "aria-hidden": "true" }, arrow);
  return h("th", { scope: "col", class: column.figure ? "mn-sorted" : "mn-sorted mn-left", "aria-sort": column.order },
    named(h("button", { type: "button", class: "mn-sort", title: `Sort by ${column.title}`,
      onclick: () => send("sort", { field: column.field }) },
    column.figure ? [mark, column.title] : [column.title, mark]), column.field),  // figures keep to their right edge
    column.unit ? h("span", {}, column.unit) : null);
}

function source(cell, asking) {
  if (asking) return h("span", { class: "mn-source" }, stateMark("streaming"), "probing");
  const words = cell.at ? `${cell.source} ${age(cell.at)}` : cell.source;
  return h("span", cell.at ? { class: "mn-source", "data-source": cell.source, "data-at": cell.at } : { class: "mn-source" }, words);
}

function fact(row, column, cell, opened, asking, send) {
  const left = column.figure ? "" : " mn-left";
  if (!cell) return h("td", { class: `mn-fact mn-quiet${left}`, title: "the server is being asked" }, "…");
  const value = h("bdi", {}, cell.mark ? [h("span", { class: `mn-mark mn-${cell.tone}`, "aria-hidden": "true" }, cell.mark), " "] : null, cell.text);
  if (!cell.source) {
    return h("td", { class: `mn-fact mn-quiet${left}`, title: cell.why }, value, asking ? source(cell, true) : null);
  }
  const open = Boolean(opened && opened.model === row.key && opened.field === column.field);
  return h("td", { class: `mn-fact${left}${cell.but ? " mn-differs" : ""}${open ? " mn-open" : ""}` },
    named(h("button", { type: "button", class: "mn-value", "aria-expanded": String(open), title: "Show the evidence",
      onclick: () => send("evidence", { model: row.key, field: column.field }) },
    value, source(cell, asking),
    cell.but ? h("span", { class: "mn-but" }, h("span", { "aria-hidden": "true" }, "! "), cell.but) : null), column.field));
}

// What can be done with one model. The first button keeps its place and the keyboard's: Stop stands where Probe was.
function actions(row, probe, send, choose) {
  const act = (label, verb, options) => {
    // Neither the second press of a double click nor a key that is held down says anything.
    const control = button(label, (event) => { if (event.detail < 2) send(verb, { model: row.key }); }, options);
    control.addEventListener("keydown", (event) => { if (event.repeat) event.preventDefault(); });
    control.setAttribute("aria-label", `${label} ${row.label}`);
    return named(control, label === "Remove" || label === "Cancel" ? "second" : "first");
  };
  const remove = act("Remove", "remove");
  const phase = probe && probe.phase;
  let buttons, words = null;
  if (phase === "planning") [buttons, words] = [[act("Stop", "stop"), remove], [stateWord("waiting"), ` · ${probe.words}`]];
  else if (phase === "planned") [buttons, words] = [[act("Probe", "probe", { main: true, disabled: !probe.choice.some((each) => each.on) }), act("Cancel", "stop"), choose], probe.words];
  else if (phase === "probing") {
    const share = probe.of ? 100 * probe.found / probe.of : 0;
    const meter = h("div", { class: "mn-meter", role: "progressbar", "aria-label": `Probe of ${row.label}`,
      "aria-valuemin": 0, "aria-valuemax": probe.of, "aria-valuenow": probe.found }, h("div", { style: `width:${share}%` }));
    [buttons, words] = [[act("Stop", "stop"), remove], [meter, probe.words]];
  } else if (row.retry) [buttons, words] = [[act("Retry", "retry", { disabled: row.asking }), remove], row.asking ? stateWord("waiting") : stateWord("failed")];
  else {
    buttons = [act("Probe", "plan", { disabled: Boolean(row.no_probe), title: row.no_probe || "Ask the model what it can do; first it says how many requests that takes" }), remove];
    words = row.asking ? [stateWord("waiting"), " · asking the server"] : row.no_probe && !row.notes.length ? "looked up by name" : null;
  }
  if (["done", "stopped", "failed"].includes(phase) && !row.asking) {
    const early = phase === "done" && probe.notes.length ? "failed" : phase;
    words = [stateMark(early), named(h("button", { type: "button", class: "mn-link",
      onclick: () => send("evidence", { model: row.key, field: null }) }, early === "done" ? "probed" : early === "failed" ? "ended early" : "stopped"), "found"),
    ` · ${probe.words}`];
  }
  return [h("div", { class: "mn-row-actions" }, buttons), h("div", { class: (row.no_probe || row.retry) && !probe ? "mn-row-state mn-short" : "mn-row-state" }, words)];
}

function rowNotes(row, probe) {
  const said = row.notes.map((text) => ["warning", text]);
  if (probe) said.push(...probe.notes.map((text) => ["warning", text]));
  if (probe && probe.phase === "failed") said.push(["failed", [probe.words, probe.hint].filter(Boolean).join(" ")]);
  return said;
}

// One model: its row, and a row below it for what must be known of it. Cells are drawn again only where they changed.
function modelRow(send) {
  const name = h("th", { scope: "row", class: "mn-label" });
  const todo = h("td", { class: "mn-left mn-todo" });
  const element = h("tr", {}, name, todo);
  const below = h("tr", { class: "mn-note-row" });
  const menu = probeMenu(send), choose = named(disclosure("Choose", menu.panel), "choose");
  const said = h("div", {}), under = h("td", {}, h("div", { class: "mn-under" }, menu.panel, said));
  below.append(under);
  choose.addEventListener("click", () => { below.hidden = menu.panel.hidden && !said.hasChildNodes(); });
  let cells = [], shown = {};
  const changed = (key, value) => { const text = JSON.stringify(value); if (shown[key] === text) return false; shown[key] = text; return true; };
  return {
    element, below,
    update(row, columns, probe, opened) {
      if (changed("name", [row.label, row.server, row.colour])) {
        refill(name, h("div", {}, h("span", { class: `mn-dot ${row.colour}`, "aria-hidden": "true" }),
          h("span", {}, h("b", {}, h("bdi", {}, row.label)), row.server ? h("span", { class: "mn-source" }, row.server) : null)));
      }
      const planned = Boolean(probe && probe.phase === "planned");
      if (planned && changed("choice", [row.label, probe.choice])) menu.update(row, probe.choice);
      if (!planned && !menu.panel.hidden) choose.click();
      choose.setAttribute("aria-label", `Choose what to ask ${row.label}`);
      if (changed("todo", [row.label, row.asking, row.retry, row.no_probe, row.notes.length, probe])) refill(todo, actions(row, probe, send, choose));
      if (changed("columns", columns.map((column) => column.field))) {
        cells.forEach((cell) => cell.remove());
        cells = columns.map(() => h("td", {}));
        cells.forEach((cell) => element.append(cell));
        for (const key of Object.keys(shown)) if (key.startsWith("cell ")) delete shown[key];
      }
      columns.forEach((column, place) => {
        const asking = Boolean(probe && probe.phase === "probing" && probe.field === column.field);
        const open = Boolean(opened && opened.model === row.key && opened.field === column.field);
        if (!changed(`cell ${column.field}`, [row.cells[column.field], asking, open])) return;
        const next = fact(row, column, row.cells[column.field], opened, asking, send);
        const had = cells[place].contains(cells[place].ownerDocument.activeElement);
        cells[place].replaceWith(next);
        cells[place] = next;
        if (had && next.querySelector("button")) next.querySelector("button").focus();
      });
      const list = rowNotes(row, probe);
      under.colSpan = columns.length + 2;
      if (changed("notes", list)) said.replaceChildren(...(list.length ? [notes(list.map(([kind, text]) => [kind, worded(text)]))] : []));
      below.hidden = !list.length && menu.panel.hidden;
    },
  };
}

function exchange(each) {
  return h("div", { class: "mn-exchange" },
    h("div", { class: "mn-quiet" }, [moment(each.at), each.took, each.error].filter(Boolean).join(", ")),
    h("div", {}, h("i", {}, "asked "), h("code", {}, each.request)),
    h("div", {}, h("i", {}, "came "), h("code", {}, each.reply || "nothing")));
}

function finding(each) {
  const n = each.exchanges.length;
  return h("div", { class: "mn-finding" },
    h("div", {}, h("b", {}, each.title), " ", h("span", { class: `mn-mark mn-${each.tone}`, "aria-hidden": "true" }, each.mark),
      each.verdict, each.value ? ` · ${each.value}` : "", h("span", { class: "mn-quiet" }, ` · ${moment(each.at)}`)),
    h("div", {}, each.why),
    n ? h("details", {}, h("summary", {}, n === 1 ? "1 exchange" : `${n} exchanges`), each.exchanges.map(exchange)) : null);
}

// The panel below the table: who says so, and what was asked and came.
function evidencePanel(send, back) {
  const panel = h("section", { class: "mn-evidence-panel", hidden: true, tabindex: "0" });
  let shown = "", which = "";
  const close = () => { send("close_evidence"); back(); };
  panel.addEventListener("keydown", (event) => { if (event.key === "Escape") close(); });
  return {
    panel,
    update(about) {
      if (shown === (shown = JSON.stringify(about || null))) return;
      panel.hidden = !about;
      if (!about) return panel.replaceChildren();
      const same = which === (which = `${about.model} ${about.field}`);
      const open = same ? [...panel.querySelectorAll("details")].map((each) => each.open) : [];
      panel.setAttribute("aria-label", `Evidence: ${about.title} of ${about.label}`);
      refill(panel,
        h("div", { class: "mn-head" }, h("div", { class: "mn-name" }, h("b", {}, about.title), " ", h("bdi", { class: "mn-quiet" }, `· ${about.label}`)),
          named(button("Close", close), "close")),
        about.said.map((each) => h("div", { class: "mn-said" },
          h("div", {}, h("b", {}, each.source), " ", h("span", { class: `mn-mark mn-${each.tone}`, "aria-hidden": "true" }, each.mark),
            h("bdi", {}, each.value), h("span", { class: "mn-quiet" }, each.at ? ` · ${moment(each.at)}` : "")),
          h("div", { class: "mn-quiet" }, each.evidence || each.means))),
        about.results.map(finding),
        about.said.length || about.results.length ? null : h("div", { class: "mn-quiet" }, "Nobody said anything of it."));
      if (!same) panel.scrollTop = 0;
      panel.querySelectorAll("details").forEach((each, place) => { each.open = open[place] ?? (about.field !== null && place === 0); });
    },
  };
}

function legend(state) {
  const cells = state.rows.flatMap((row) => Object.values(row.cells));
  const said = state.legend.map(([word, means]) => [h("b", {}, word), `: ${means}`]);
  if (cells.some((cell) => !cell.source)) said.push([h("b", {}, "?"), " and ", h("b", {}, "–"), ": nobody says"]);
  if (cells.some((cell) => cell.but)) said.push([h("b", {}, "!"), " and an edge: sources disagree, the better one stands first"]);
  if (cells.some((cell) => cell.source)) said.push(["click a value for its evidence"]);
  return said.flatMap((each, place) => (place ? [" · ", ...each] : each));
}

export default {
  initialize({ model }) { live(model); },
  render({ model, el }) {
    const send = (verb, more) => tell(model, { do: verb, ...more });
    const voice = announcer();
    const add = adding(send);
    const fields = fieldsMenu(send), filter = filterMenu(send);
    const fieldsButton = disclosure("Columns", fields.panel), filterButton = disclosure("Filter", filter.panel);
    const find = named(button("Find servers", () => send(find.textContent === "Stop" ? "stop_find" : "find"), { title: "Look for running model servers, and add their models" }), "find");
    const differences = h("input", { type: "checkbox", onchange: (event) => send("differences", { on: event.target.checked }) });
    const errors = h("div", {}), headings = h("tr", {}), body = h("tbody", {});
    const table = h("table", { class: "mn-table mn-facts mn-profile-table", "aria-label": "Profiles of models" }, h("thead", {}, headings), body);
    const scroll = h("div", { class: "mn-scroll mn-profiles", tabindex: "0", role: "region", "aria-label": "Profiles of models, scrolls sideways" }, table);
    const empty = h("div", { class: "mn-empty" }), under = h("div", {}), key = h("div", { class: "mn-legend" });
    const rows = new Map();
    let opener = null;
    const panel = evidencePanel(send, () => {
      const row = opener && rows.get(opener.model);
      const control = row && row.element.querySelector(`[data-name="${opener.field || "found"}"]`);
      if (control) control.focus();
    });
    const searching = h("span", { class: "mn-state mn-searching" });
    el.append(h("div", { class: `${ROOT} mn-profiling` }, kernelNote(model, el),
      h("div", { class: "mn-actions" }, add.form, find, searching, h("span", { class: "mn-gap" }), fieldsButton, filterButton,
        h("label", { class: "mn-check" }, differences, "Only differences"), voice.box),
      errors, fields.panel, filter.panel, empty, scroll, under, key, panel.panel));
    const shown = {};
    const changed = (name, value) => { const text = JSON.stringify(value); if (shown[name] === text) return false; shown[name] = text; return true; };

    function drawRows(state) {
      const keep = new Set(state.rows.map((row) => row.key));
      for (const [name, row] of rows) {
        if (keep.has(name)) continue;
        const had = row.element.contains(document.activeElement);
        row.element.remove();
        row.below.remove();
        rows.delete(name);
        if (had) add.input.focus();
      }
      const order = state.rows.map((row) => row.key);
      const moved = changed("order", order);
      for (const row of state.rows) {
        if (!rows.has(row.key)) rows.set(row.key, modelRow(send));
        rows.get(row.key).update(row, state.columns, state.probes[row.key], state.evidence);
      }
      if (!moved) return;
      const active = body.contains(document.activeElement) ? document.activeElement : null;
      for (const name of order) body.append(rows.get(name).element, rows.get(name).below);
      if (active && active.isConnected) active.focus();
    }

    function drawHeadings(state) {
      const by = state.sort.by === "model" ? (state.sort.down ? "descending" : "ascending") : "none";
      if (!changed("headings", [state.columns, by])) return;
      const name = heading({ field: "model", title: "model", unit: "", order: by }, send);
      name.classList.add("mn-label");
      refill(headings, name, h("th", { scope: "col", class: "mn-left" }, "probe"), state.columns.map((column) => heading(column, send)));
    }

    function drawEmpty(state) {
      const none = !state.rows.length && !state.of;
      empty.hidden = state.rows.length > 0;
      scroll.hidden = !state.rows.length;
      if (!changed("empty", [none, state.rows.length, state.of, state.searching])) return;
      refill(empty, none
        ? [h("div", {}, "No models yet. Add one by its name, or look for the servers that are running."),
          named(button("Find servers", () => send("find"), { main: true, disabled: state.searching }), "find")]
        : state.rows.length ? null
          : [h("div", {}, state.of === 1 ? "The only model is left out by the filter." : `All ${state.of} models are left out by the filter.`), named(button("Clear filter", () => send("clear_filter"), { main: true }), "clear")]);
    }

    const undo = watch(model, (state) => {
      opener = state.evidence || opener;
      add.update(state.names);
      if (changed("find", state.searching)) {
        find.textContent = state.searching ? "Stop" : "Find servers";
        searching.replaceChildren(state.searching ? stateWord("searching") : "");
      }
      if (changed("menu", [state.menu, state.auto])) fields.update(state.menu, state.auto);
      if (changed("filters", [state.filters, state.left_out])) {
        filter.update(state.filters);
        filterButton.textContent = state.left_out ? `Filter · ${state.left_out} of ${state.of} left out` : "Filter";
      }
      differences.checked = state.differences;
      if (changed("error", state.error)) errors.replaceChildren(errorBox(state.error) || "");
      table.classList.toggle("mn-probeable", state.rows.some((row) => !row.no_probe));
      drawEmpty(state);
      drawHeadings(state);
      drawRows(state);
      if (changed("under", [state.search_notes, state.notes])) under.replaceChildren(notes([...state.search_notes, ...state.notes]));
      if (changed("legend", [state.legend, state.rows])) key.replaceChildren(...legend(state));
      panel.update(state.evidence);
      const planned = state.rows.map((row) => [row, state.probes[row.key]]).filter(([, probe]) => probe && probe.phase === "planned");
      voice.say(planned.length ? planned.map(([row, probe]) => `${row.label}: ${probe.words}`).join(". ") : state.said || "");
    });
    const clock = setInterval(() => el.querySelectorAll("[data-at]").forEach((each) => {
      each.textContent = `${each.dataset.source} ${age(Number(each.dataset.at))}`;
    }), OLDER_MS);
    return () => { clearInterval(clock); undo(); };
  },
};
