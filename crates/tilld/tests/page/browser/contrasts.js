// The contrast (WCAG 2.2) of each text that can be seen with what is behind it. What cannot be
// used now (disabled, inert) is exempt there and left out here.
() => {
  const parse = (colour) => {
    const [r, g, b, a = 1] = colour.match(/[\d.]+/g).map(Number);
    return { r, g, b, a };
  };
  const over = (top, under) => {
    const mix = (of) => top[of] * top.a + under[of] * (1 - top.a);
    return { r: mix("r"), g: mix("g"), b: mix("b"), a: 1 };
  };
  const channel = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const luminance = ({ r, g, b }) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  function ratio(one, other) {
    const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05);
  }

  // What is painted under a text, the nearest first. What lets presses through is not found at a
  // point; under such a text lie its ancestors.
  function stack(element) {
    const { left, top, width, height } = element.getBoundingClientRect();
    const found = document.elementsFromPoint(left + width / 2, top + height / 2);
    if (found.includes(element)) return found.slice(found.indexOf(element));
    if (found.length > 0 && getComputedStyle(element).pointerEvents !== "none") return null;
    const ancestors = [];
    for (let box = element; box; box = box.parentElement) ancestors.push(box);
    return ancestors;
  }

  // All colours that the background may have under a text.
  function grounds(boxes) {
    const layers = [];
    const flatten = (ground) => layers.reduceRight((under, top) => over(top, under), ground);
    for (const box of boxes) {
      const { backgroundImage, backgroundColor } = getComputedStyle(box);
      if (backgroundImage !== "none") return backgroundImage.match(/rgba?\([^)]*\)/g).map(parse).map(flatten);
      const ground = parse(backgroundColor);
      if (ground.a > 0) layers.push(ground);
      if (ground.a === 1) break;
    }
    return [flatten({ r: 255, g: 255, b: 255, a: 1 })];
  }

  function opacity(element) {
    return element ? Number(getComputedStyle(element).opacity) * opacity(element.parentElement) : 1;
  }

  const told = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const [text, element] = [walk.currentNode.textContent.trim(), walk.currentNode.parentElement];
    if (!text || !element.checkVisibility() || element.closest(".unseen, :disabled, [inert]")) continue;
    const boxes = stack(element);
    if (!boxes) continue;
    const ink = parse(getComputedStyle(element).color);
    ink.a *= opacity(element);
    told.push({ text, ratio: Math.min(...grounds(boxes).map((ground) => ratio(over(ink, ground), ground))) });
  }
  return told;
}
