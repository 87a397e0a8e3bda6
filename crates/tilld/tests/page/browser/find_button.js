// The middle of the button with these words on one of its lines, or why it cannot be pressed.
(within, words) => {
  const seen = [...document.querySelectorAll(`${within} button`)].filter((button) => button.checkVisibility());
  const named = seen.filter((button) =>
    button.getAttribute("aria-label") === words || button.innerText.split("\n").some((line) => line.trim() === words));
  if (named.length !== 1) {
    const all = seen.map((button) => JSON.stringify(button.innerText)).join(", ");
    return { why: `${named.length} buttons have these words, of ${all}` };
  }
  const [button] = named;
  if (button.disabled) return { why: "it is disabled" };
  const { left, top, width, height } = button.getBoundingClientRect();
  const [x, y] = [left + width / 2, top + height / 2];
  const hit = document.elementFromPoint(x, y);
  return button.contains(hit) ? { x, y } : { why: `${hit?.outerHTML.slice(0, 80)} is in front of it` };
}
