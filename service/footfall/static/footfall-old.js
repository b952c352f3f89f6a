/*
 * For browsers that cannot read footfall.js: an image counts the view and shows the numbers in place of the block.
 *
 * The line is <script nomodule …>, so that browsers with modules do not load this file. A few of them do not know
 * nomodule; these have getOwnPropertyDescriptors (ES2017, as footfall.js) and leave at once. The syntax is ES5's.
 */
(function () {
  function find(selector) {
    return document.querySelector(selector);
  }

  var script = find("[src*=footfall-old]");
  var block = find(".footfall,visitor-counts");
  var image = new Image();
  var off = self !== top || find("[data-beacon=off]");
  try {
    off = off || localStorage.footfall === "off";
  } catch (storageBlocked) {}
  if (Object.getOwnPropertyDescriptors || !script || (off && !block)) return;
  image.src = script.src.replace("footfall-old.js", block ? "counts.svg" : "seen.gif") + (off ? "" : "&count=1");
  if (block) {
    block.innerHTML = "";
    block.appendChild(image);
  }
})();
