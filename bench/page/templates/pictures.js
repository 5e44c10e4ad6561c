// The comparison of two pictures: a slider, blinking, and where the two differ.
// Everything is readable without it: the sheet below holds every picture.
(() => {
  document.documentElement.classList.add("js");
  const stage = document.querySelector(".stage");
  if (!stage) return;
  const find = (selector) => stage.querySelector(selector);
  const all = (selector) => [...document.querySelectorAll(selector)];
  const frame = find(".compare"), slider = find(".slider"), swap = find(".swap");
  const automatic = find(".automatic"), byItself = find(".automatic input"), tooLively = find(".automatic small");
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const lines = new Map(all(".line[data-row]").map((line) => [line.dataset.row, [...line.querySelectorAll(".thumb")]]));
  const names = [...lines.keys()], count = lines.get(names[0]).length;
  const chosen = { left: stage.dataset.left, right: stage.dataset.right, sample: 0, mode: "slide" };
  const thumb = (name) => lines.get(name)[chosen.sample];
  const picture = (name) => thumb(name).querySelector("img").src;

  // One number says how much of the left picture is seen; blinking shows all of it or none.
  const cut = (percent) => {
    frame.style.setProperty("--cut", percent + "%");
    frame.dataset.seen = percent >= 50 ? "left" : "right";
  };
  let timer = 0;
  const settle = () => {
    const blinking = chosen.mode === "blink";
    clearInterval(timer);
    timer = 0;
    slider.hidden = blinking;
    swap.hidden = automatic.hidden = !blinking;
    frame.classList.toggle("blinking", blinking);
    cut(blinking ? 100 : slider.value);
    if (blinking && byItself.checked) timer = setInterval(turn, 700);
  };
  const turn = () => cut(frame.dataset.seen === "left" ? 0 : 100);
  const motion = () => {
    byItself.disabled = calm.matches;
    byItself.checked = !calm.matches;
    tooLively.hidden = !calm.matches;
    settle();
  };

  // Differences are worked out here, so that any two artifacts can be compared.
  const canvas = find("canvas");
  const sheetOf = (width, height) => Object.assign(document.createElement("canvas"), { width, height });
  const pixels = async (source) => {
    const image = new Image();
    image.src = source;
    await image.decode();
    const sheet = sheetOf(image.naturalWidth, image.naturalHeight);
    const pen = sheet.getContext("2d", { willReadFrequently: true });
    pen.drawImage(image, 0, 0);
    return pen.getImageData(0, 0, sheet.width, sheet.height);
  };
  const colours = (() => {
    const pen = sheetOf(256, 1).getContext("2d");
    const stops = find(".scale").dataset.stops.match(/rgb\([^)]*\)/g);
    const gradient = pen.createLinearGradient(0, 0, 256, 0);
    stops.forEach((colour, i) => gradient.addColorStop(i / (stops.length - 1), colour));
    pen.fillStyle = gradient;
    pen.fillRect(0, 0, 256, 1);
    return pen.getImageData(0, 0, 256, 1).data;
  })();
  let drawn = 0;
  const heat = async () => {
    const mine = ++drawn;
    const [a, b] = await Promise.all([chosen.left, chosen.right].map((name) => pixels(picture(name))));
    if (mine !== drawn) return;
    const map = new ImageData(a.width, a.height);
    const most = 255 * 3 * Number(stage.dataset.most);
    let sum = 0;
    for (let i = 0; i < a.data.length; i += 4) {
      const gap = Math.abs(a.data[i] - b.data[i]) + Math.abs(a.data[i + 1] - b.data[i + 1]) + Math.abs(a.data[i + 2] - b.data[i + 2]);
      const level = 4 * Math.round(255 * Math.min(1, gap / most));
      sum += gap;
      map.data.set(colours.subarray(level, level + 4), i);
    }
    canvas.width = a.width;
    canvas.height = a.height;
    canvas.getContext("2d").putImageData(map, 0, 0);
    const mean = (100 * sum) / (3 * 255 * a.width * a.height);
    canvas.setAttribute("aria-label", `Difference of ${chosen.left} and ${chosen.right}, ${thumb(chosen.left).dataset.title}: ${mean.toFixed(2)} % of the range on average`);
  };

  const show = () => {
    const { title } = thumb(names[0]).dataset;
    for (const [side, image, tag] of [["left", find(".before"), find(".tag.l")], ["right", find(".after"), find(".tag.r")]]) {
      image.src = picture(chosen[side]);
      image.alt = `${chosen[side]}, ${title}`;
      tag.textContent = chosen[side];
      for (const radio of all(`.choices [name=${side}]`)) radio.checked = radio.value === chosen[side];
    }
    slider.setAttribute("aria-label", `How much of ${chosen.left} is shown over ${chosen.right}, in percent`);
    find(".which").textContent = `${title}, ${chosen.sample + 1} of ${count}`;
    all(".choices .here").forEach((cell, i) => { cell.textContent = thumb(names[i]).dataset.caption; });
    const seen = new Set([names[0], chosen.left, chosen.right]);
    for (const line of all(".line")) line.hidden = !seen.has(line.dataset.row ?? line.dataset.heat);
    for (const line of all(".line")) [...line.querySelectorAll(".thumb")].forEach((one, i) => one.classList.toggle("on", i === chosen.sample));
    heat();
  };

  slider.addEventListener("input", () => cut(slider.value));
  swap.addEventListener("click", () => { byItself.checked = false; clearInterval(timer); timer = 0; turn(); });
  byItself.addEventListener("change", settle);
  calm.addEventListener("change", motion);
  for (const radio of all(".modes input")) radio.addEventListener("change", () => { chosen.mode = radio.value; settle(); });
  for (const radio of all(".choices input")) radio.addEventListener("change", () => { chosen[radio.name] = radio.value; show(); });
  for (const button of all(".step")) button.addEventListener("click", () => {
    chosen.sample = (chosen.sample + Number(button.dataset.by) + count) % count;
    show();
  });
  for (const line of all(".line")) line.addEventListener("click", (event) => {
    const place = [...line.querySelectorAll(".thumb")].indexOf(event.target.closest(".thumb"));
    if (place >= 0) { chosen.sample = place; show(); }
  });
  find(".modes input").checked = true;
  motion();
  show();
})();
