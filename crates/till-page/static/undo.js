// Undoing a sale that has several pieces: some of them, or all that is left.
import { byId, el, one, word } from "./words.js";

/** Readies the dialog; `undo` gets a sale's id and its pieces, none for all that is left. */
export function readyUndo(undo) {
  let asked = null;
  let busy = false;

  // A second press before the next state would take one more piece than was seen.
  function press(lines) {
    if (busy) return;
    busy = true;
    undo(asked.id, lines).then(() => (busy = false));
  }

  function close() {
    asked = null;
    byId("undo-sale").close();
  }

  function drawLine({ line, left, text, unit_price }) {
    return el("li", {},
      el("span", { class: "quantity" }, `${left}×`),
      el("span", { class: "text" }, text),
      el("span", { class: "amount" }, unit_price),
      el("button", { type: "button", class: "piece", click: () => press([{ line, quantity: 1 }]) },
        one(word("undo-piece")), el("span", { class: "unseen" }, ` ${text}`)));
  }

  function draw() {
    byId("undo-time").textContent = asked.time;
    byId("undo-amount").textContent = asked.amount;
    byId("undo-lines").replaceChildren(...asked.pieces.map(drawLine));
  }

  byId("undo-close").addEventListener("click", close);
  byId("undo-all").addEventListener("click", () => press([]));
  byId("undo-sale").addEventListener("cancel", close);

  return {
    /** Asks which pieces of a sale are to be undone. */
    ask(sale) {
      asked = sale;
      draw();
      byId("undo-sale").showModal();
    },
    /** Follows what is left of the sale. */
    follow(recent) {
      if (!asked) return;
      const sale = recent.find((sale) => sale.id === asked.id);
      if (!sale?.voidable) return close();
      if (JSON.stringify(sale) === JSON.stringify(asked)) return;
      asked = sale;
      draw();
    },
    close,
  };
}
