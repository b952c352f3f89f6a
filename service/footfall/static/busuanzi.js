/*
 * In place of the script of busuanzi or vercount: <script async src="https://host/busuanzi.js?site=portal"></script>,
 * or https://host/busuanzi/portal/busuanzi.pure.mini.js, for themes whose setting is the folder of that file.
 *
 * Marks the places that themes have for their numbers, loads footfall.js, which fills them, and shows each container
 * when its number is there.
 */
(() => {
  "use strict";

  const script = document.currentScript || document.querySelector('script[src*="/busuanzi"]');
  if (!script || !script.src) return;
  const numbers = { site_pv: "views_total", site_uv: "total", page_pv: "page_views" };
  const places = (kind, name) => {
    const both = ["busuanzi", "vercount"].map(product => `${product}_${kind}_${name}`);
    return document.querySelectorAll(both.map(place => `#${place},.${place}`).join());
  };

  const start = () => {
    Object.keys(numbers).forEach(name => {
      places("value", name).forEach(value => {
        value.setAttribute("data-count", numbers[name]);
        const show = () => {
          if (!/\d/.test(value.textContent)) return;
          places("container", name).forEach(container => {
            container.style.display = "inline";
          });
        };
        new MutationObserver(show).observe(value, { childList: true });
      });
    });
    places("container", "page_uv").forEach(container => {
      container.style.display = "none";
    });
    if (places("value", "page_uv").length) {
      console.warn("Footfall: visitors of single pages are not counted, so the place of page_uv stays hidden.");
    }
    // A theme that loads pages by itself runs its script line again on each.
    if (window.footfall) return window.footfall.fill(document);
    const loaded = document.createElement("script");
    loaded.src = script.src.replace(/busuanzi\/([^/]+)\/[^/]*$/, "footfall.js?site=$1").replace("busuanzi.js", "footfall.js");
    loaded.nonce = script.nonce;
    [...script.attributes].forEach(attribute => {
      if (attribute.name.startsWith("data-")) loaded.setAttribute(attribute.name, attribute.value);
    });
    document.head.appendChild(loaded);
  };

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
