// Returns what looks wrong in the document of a frame: text that is cut, overlaps, leaves its block or its page, or breaks
// within a number. Called by test_engine_looks.py in each engine.
(frame => {
  const inside = frame.contentDocument;
  const width = inside.documentElement.clientWidth;
  const wrong = [];
  const linesOf = node => {
    const range = inside.createRange();
    range.selectNodeContents(node);
    return [...range.getClientRects()].filter(box => box.width && box.height);
  };
  const across = (one, other) => Math.min(one.right, other.right) - Math.max(one.left, other.left);
  const along = (one, other) => Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top);
  // The boxes of two lines of text may touch, as they are higher than the letters.
  const overlap = (one, other) => across(one, other) > 1 && along(one, other) > one.height / 3;

  if (inside.documentElement.scrollWidth > width) wrong.push("the page scrolls sideways");
  inside.querySelectorAll(".footfall, img").forEach(block => {
    const name = block.className || "image";
    const around = block.getBoundingClientRect();
    if (around.left < 0 || around.right > width) wrong.push(`${name} is wider than its page`);
    const texts = [];
    const walker = inside.createTreeWalker(block, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const text = walker.currentNode;
      if (text.data.trim()) texts.push([`${name}: ${text.data.trim()}`, linesOf(text), text.parentElement]);
    }
    texts.forEach(([what, lines, element], at) => {
      const leaves = line => line.left < around.left - 1 || line.right > around.right + 1 || line.bottom > around.bottom + 3;
      if (lines.some(leaves)) wrong.push(`${what} leaves its block`);
      const isCut = element.clientWidth && element.scrollWidth > element.clientWidth + 1;
      if (isCut) wrong.push(`${what} is cut`);
      texts.slice(at + 1).forEach(([other, others]) => {
        if (lines.some(line => others.some(another => overlap(line, another)))) wrong.push(`${what} and ${other} overlap`);
      });
    });
    block.querySelectorAll("b").forEach(number => {
      const [first, ...others] = linesOf(number);
      if (others.some(line => along(first, line) < first.height / 2)) wrong.push(`${name}: ${number.textContent} breaks`);
    });
  });
  return wrong;
})
