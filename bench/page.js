// Everything is readable without this: it adds the slider, the blinking and the choosing.
(() => {
  document.documentElement.classList.add("js");
  const stage = document.querySelector(".stage");
  if (stage) {
    const find = (selector) => stage.querySelector(selector);
    const thumbs = [...document.querySelectorAll(".thumb")];
    const buttons = [...stage.querySelectorAll(".choices button")];
    const compare = find(".compare"), range = find("input"), blinker = find(".blink");
    let step = stage.dataset.step, sample = "0", blinking = 0;
    const picture = (row) => thumbs.find((t) => t.dataset.row === row && t.dataset.sample === sample);
    const source = (row) => picture(row).querySelector("img").src;
    const cut = (percent) => compare.style.setProperty("--cut", percent + "%");
    const show = () => {
      find(".before").src = source("original");
      find(".after").src = source(step);
      find(".heat img").src = source("heat:" + step);
      find(".tag.r").textContent = step;
      find(".which").textContent = picture("original").dataset.title;
      for (const button of buttons) {
        button.setAttribute("aria-pressed", String(button.dataset.step === step));
        button.lastElementChild.textContent = picture(button.dataset.step).dataset.caption;
      }
      for (const thumb of thumbs) thumb.classList.toggle("on", thumb.dataset.sample === sample);
      for (const line of document.querySelectorAll(".line[data-step]"))
        line.hidden = line.style.display = line.dataset.step === step ? "" : "none";
    };
    const stop = () => {
      clearInterval(blinking);
      blinking = 0;
      blinker.setAttribute("aria-pressed", "false");
      cut(range.value);
    };
    range.addEventListener("input", stop);
    blinker.addEventListener("click", () => {
      if (blinking) return stop();
      let before = false;
      const turn = () => { before = !before; cut(before ? 100 : 0); };
      blinker.setAttribute("aria-pressed", "true");
      blinking = setInterval(turn, 600);
      turn();
    });
    for (const button of buttons) button.addEventListener("click", () => { step = button.dataset.step; show(); });
    for (const thumb of thumbs) thumb.addEventListener("click", () => { sample = thumb.dataset.sample; show(); });
    show();
  }
  const copy = document.querySelector(".made .plain");
  if (copy) copy.addEventListener("click", async () => {
    const text = [...document.querySelectorAll(".made code")].map((line) => line.textContent).join("\n");
    try { await navigator.clipboard.writeText(text); copy.textContent = "Copied"; }
    catch { getSelection().selectAllChildren(document.querySelector(".made pre")); copy.textContent = "Selected"; }
    setTimeout(() => { copy.textContent = "Copy"; }, 1500);
  });
})();
