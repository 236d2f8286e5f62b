// Panels side by side, as compare(..., live="widget") shows them.
const PATIENCE_MS = 1500;
const BUSY = "The kernel is busy with this cell. The notebook's own square button interrupts it at once.";

export default {
  initialize({ model }) { live(model); },
  render({ model, el }) {
    const grid = h("div", { class: "mn-grid" });
    const voice = announcer();
    const busy = h("span", { class: "mn-quiet" });
    let timer = 0;
    const stop = button("Stop", () => {
      tell(model, { do: "stop" });
      // A kernel that runs a blocking cell hears of it only when the cell is over.
      timer = setTimeout(() => { if (!stop.disabled) { busy.textContent = BUSY; voice.say(BUSY); } }, PATIENCE_MS);
    });
    const actions = h("div", { class: "mn-actions" }, stop, busy);
    el.append(h("div", { class: ROOT }, kernelNote(model, el), actions, voice.box, grid));
    const panels = [];
    const unwatch = watch(model, (state, what) => {
      const list = state.panels || [];
      while (panels.length < list.length) { const panel = answerPanel(); panels.push(panel); grid.append(panel.element); }
      while (panels.length > list.length) panels.pop().element.remove();
      const touched = what && what.panels ? Object.keys(what.panels) : list.keys();
      for (const index of touched) panels[index].update(list[index]);
      actions.hidden = !state.stoppable;
      stop.disabled = !state.running;  // it keeps its place: nothing jumps when the run ends
      if (!state.running) busy.textContent = "";
      if (state.running) voice.say(endedWords(list));
      else if (list.every((panel) => OVER.includes(panel.state))) voice.say(`All answers have ended. ${endedWords(list)}`);
    });
    return () => { clearTimeout(timer); unwatch(); };
  },
};
