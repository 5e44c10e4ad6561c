// Copying the commands, and opening everything for a printer.
(() => {
  const copy = document.querySelector(".made .plain");
  copy.addEventListener("click", async () => {
    const text = [...document.querySelectorAll(".made code")].map((line) => line.textContent).join("\n");
    try { await navigator.clipboard.writeText(text); copy.textContent = "Copied"; }
    catch { getSelection().selectAllChildren(document.querySelector(".made pre")); copy.textContent = "Selected"; }
    setTimeout(() => { copy.textContent = "Copy"; }, 1500);
  });
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const one of opened) one.open = true;
  });
  addEventListener("afterprint", () => { for (const one of opened) one.open = false; });
})();
