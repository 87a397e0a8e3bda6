// The keypad for an amount that has no product button.
import { byId } from "./words.js";

/** Readies the keypad; `add` gets an amount like `12,50`. */
export function readyKeypad(add) {
  const typed = byId("typed");

  function handleDigit(event) {
    const key = event.target.closest("button")?.dataset.key;
    if (!key) return;
    const next = key === "back" ? typed.textContent.slice(0, -1) : typed.textContent + key;
    const amount = next.replace(/^0+(?=\d)/, "") || "0";
    if (/^\d{1,5}(,\d{0,2})?$/.test(amount)) typed.textContent = amount;
  }

  function addAmount() {
    byId("keypad").close();
    if (/[1-9]/.test(typed.textContent)) add(typed.textContent.replace(/,$/, ""));
  }

  function open() {
    typed.textContent = "0";
    byId("keypad").showModal();
  }

  byId("other").addEventListener("click", open);
  byId("keys").addEventListener("click", handleDigit);
  byId("keypad-close").addEventListener("click", () => byId("keypad").close());
  byId("keypad-add").addEventListener("click", addAmount);
}
