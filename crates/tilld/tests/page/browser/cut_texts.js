// Text that can be seen in part only: cut by a box that clips or by the edge of the screen, standing
// out of its own box, or over another text or picture. What is scrolled out of a list is not cut.
() => {
  const cut = [];
  const placed = [];
  const scrolls = (style, axis) => ["auto", "scroll"].includes(style[`overflow${axis}`]);
  const clips = (style, axis) => style[`overflow${axis}`] !== "visible";

  // Lines of text are as high as the font's tallest letters, a little more than what is drawn.
  function edges(rect) {
    const air = rect.height * 0.16;
    return { left: rect.left, right: rect.right, top: rect.top + air, bottom: rect.bottom - air };
  }

  function check(node) {
    const text = node.textContent.trim();
    const parent = node.parentElement;
    if (!text || !parent.checkVisibility() || parent.closest(".unseen")) return;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const rect of range.getClientRects()) {
      const why = trouble(edges(rect), parent);
      if (why === "scrolled") return;
      if (why) return cut.push({ text, why });
      placed.push({ text, parent, ...edges(rect) });
    }
  }

  // What covers the whole page, or lies on it for a moment, is meant to.
  const layer = (element) => element.closest("dialog, .lost, .toasts");
  function checkPair(one, other) {
    if (one.parent === other.parent || layer(one.parent) !== layer(other.parent)) return;
    const wide = Math.min(one.right, other.right) - Math.max(one.left, other.left);
    const high = Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top);
    if (wide > 2 && high > 2) cut.push({ text: one.text, why: `${other.text} lies on it, ${wide.toFixed(1)} x ${high.toFixed(1)} px` });
  }

  function trouble(rect, parent) {
    for (let box = parent; box; box = box.parentElement) {
      const style = getComputedStyle(box);
      const { left, top } = box.getBoundingClientRect();
      const inner = { left: left + box.clientLeft, top: top + box.clientTop };
      inner.right = inner.left + box.clientWidth;
      inner.bottom = inner.top + box.clientHeight;
      if (box.clientWidth === 0 && box.clientHeight === 0) continue;
      const out = {
        X: Math.max(inner.left - rect.left, rect.right - inner.right),
        Y: Math.max(inner.top - rect.top, rect.bottom - inner.bottom),
      };
      for (const axis of ["X", "Y"]) {
        if (out[axis] <= 1) continue;
        if (scrolls(style, axis)) return "scrolled";
        const name = box.id || box.className || box.localName;
        if (clips(style, axis) || box === parent && axis === "X") return `${name} by ${out[axis].toFixed(1)} px (${axis})`;
      }
    }
    const out = Math.max(-rect.left, -rect.top, rect.right - innerWidth, rect.bottom - innerHeight);
    return out > 1 ? `the screen by ${out.toFixed(1)} px` : null;
  }

  // A child that is larger than its box stands over what is beside the box.
  function checkBox(box) {
    const style = getComputedStyle(box);
    if (style.display === "inline" || !box.checkVisibility() || box.closest(".unseen, svg")) return;
    const slack = parseFloat(style.fontSize) * 0.3 + 1;
    const [wide, high] = [box.scrollWidth - box.clientWidth, box.scrollHeight - box.clientHeight];
    const name = box.id || box.className || box.localName;
    if (wide > 1 && !scrolls(style, "X")) cut.push({ text: box.innerText, why: `${name} is ${wide} px too narrow` });
    if (high > slack && !scrolls(style, "Y")) cut.push({ text: box.innerText, why: `${name} is ${high} px too low` });
  }

  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) check(walk.currentNode);
  for (const picture of document.querySelectorAll("img")) {
    const { left, right, top, bottom } = picture.getBoundingClientRect();
    placed.push({ text: "a picture", parent: picture, left, right, top, bottom });
  }
  placed.forEach((one, i) => placed.slice(i + 1).forEach((other) => checkPair(one, other)));
  document.querySelectorAll("body, body *").forEach(checkBox);
  return cut;
}
