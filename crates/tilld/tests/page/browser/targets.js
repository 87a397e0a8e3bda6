// The buttons that can be seen, and their sizes.
() => [...document.querySelectorAll("button")]
  .filter((button) => button.checkVisibility())
  .map((button) => {
    const { width, height } = button.getBoundingClientRect();
    return { kind: `${button.id} ${button.className}`.trim(), width, height };
  })
