// Readers and scanners that type as keyboards must press nothing.
//
// A button answers to Enter or Space only when the keyboard is quiet before and after, and a
// button that was touched does not keep the focus.

const BURST_MS = 120;
const BURST_KEYS = 6;

/** Guards the buttons; `tellBurst` is called when something typed like a scanner. */
export function guardKeys(tellBurst) {
  let last = -Infinity;
  let burst = 0;
  let quiet = 0;

  function handleKey(event) {
    const fast = event.timeStamp - last < BURST_MS && !event.repeat;
    last = event.timeStamp;
    burst = fast ? burst + 1 : 1;
    clearTimeout(quiet);
    if (!fast && (event.key === "Tab" || event.key === "Escape")) return;
    event.preventDefault();
    if (burst === BURST_KEYS) tellBurst();
    if (fast || event.repeat || (event.key !== "Enter" && event.key !== " ")) return;
    const button = document.activeElement.closest("button:not(:disabled)");
    if (button) quiet = setTimeout(() => button.isConnected && button.click(), BURST_MS);
  }

  document.addEventListener("keydown", handleKey, true);
  // Browsers press a button when Space comes up.
  document.addEventListener("keyup", (event) => event.key === " " && event.preventDefault(), true);
  document.addEventListener("mousedown", (event) => event.target.closest("button") && event.preventDefault());
}
