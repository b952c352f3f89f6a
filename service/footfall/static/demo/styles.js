/* The page of styles: a button beside each piece of code copies it. Without this script the code can be copied by hand. */
(() => {
  "use strict";

  const words = document.documentElement.lang === "vi" ? ["Chép", "Đã chép"] : ["Copy", "Copied"];
  if (!navigator.clipboard) return;
  document.querySelectorAll(".code").forEach(code => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "button plain";
    button.textContent = words[0];
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(code.value);
      button.textContent = words[1];
    });
    code.after(button);
  });
})();
