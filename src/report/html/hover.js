// Shows values at the pointer, a touch or the arrow keys, highlights single lines, and says which tables scroll. The tables
// contain all of it, too.
(() => {
  "use strict";
  const tip = document.createElement("div");
  tip.id = "tip";
  tip.hidden = true;
  tip.setAttribute("role", "status");
  document.body.append(tip);

  const place = (x, y) => {
    tip.hidden = false;
    const box = tip.getBoundingClientRect(), margin = 12;
    const left = x + margin + box.width > innerWidth - 4 ? x - margin - box.width : x + margin;
    const top = y + margin + box.height > innerHeight - 4 ? y - margin - box.height : y + margin;
    tip.style.left = `${Math.max(4, Math.min(left, innerWidth - box.width - 4))}px`;
    tip.style.top = `${Math.max(4, top)}px`;
  };
  const row = (className, text, colour) => {
    const line = document.createElement("div");
    line.className = className;
    if (colour) {
      const swatch = document.createElement("i");
      swatch.style.background = `var(--${colour})`;
      line.append(swatch);
    }
    line.append(text);
    return line;
  };

  const chart = (figure) => {
    const data = JSON.parse(figure.querySelector("script").textContent);
    const cross = document.createElement("div");
    cross.className = "cross";
    let stop = -1;
    const hide = () => { cross.remove(); tip.hidden = true; };
    const canvas = () => [...figure.querySelectorAll(".canvas")].find((one) => one.offsetWidth > 0);
    const show = (at, x, y) => {
      const board = canvas(), [position, label, values] = data.stops[at];
      const left = Number(board.dataset.left), right = Number(board.dataset.right);
      stop = at;
      cross.style.left = `${100 * (left + position * (right - left))}%`;
      board.append(cross);
      const rows = data.lines.map(([name, colour], i) => [name, colour, values[i]]).filter(([, , value]) => value);
      tip.replaceChildren(row("head", label), ...rows.map(([name, colour, value]) => {
        const line = row("line", name, colour), number = document.createElement("b");
        number.textContent = value;
        line.append(number);
        return line;
      }));
      const box = cross.getBoundingClientRect();
      place(x ?? box.left, y ?? box.top);
    };
    const nearest = (event) => {
      const box = canvas().getBoundingClientRect();
      const left = Number(canvas().dataset.left), right = Number(canvas().dataset.right);
      const at = ((event.clientX - box.left) / box.width - left) / (right - left);
      let best = 0;
      data.stops.forEach(([position], i) => {
        if (Math.abs(position - at) < Math.abs(data.stops[best][0] - at)) best = i;
      });
      return best;
    };
    if (data.stops.length === 0) return;
    const follow = (event) => show(nearest(event), event.clientX, event.clientY);
    figure.addEventListener("pointermove", follow);
    figure.addEventListener("pointerdown", follow);
    figure.addEventListener("pointerleave", hide);
    figure.addEventListener("blur", hide);
    figure.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (event.key === "Escape") hide();
      if (!step) return;
      event.preventDefault();
      show(Math.max(0, Math.min(data.stops.length - 1, stop + step)));
    });
  };
  document.querySelectorAll("figure.plot").forEach(chart);

  document.querySelectorAll("[data-tip]").forEach((element) => {
    const show = (x, y) => {
      const [head, ...lines] = element.dataset.tip.split("\n");
      tip.replaceChildren(row("head", head), ...lines.map((line) => row("line", line)));
      place(x, y);
    };
    const hide = () => { tip.hidden = true; };
    for (const name of ["pointermove", "pointerdown"]) element.addEventListener(name, (event) => show(event.clientX, event.clientY));
    element.addEventListener("pointerleave", hide);
    element.addEventListener("focus", () => {
      if (!element.matches(":focus-visible")) return;
      const box = element.getBoundingClientRect();
      show(box.left, box.bottom);
    });
    element.addEventListener("blur", hide);
  });

  document.querySelectorAll(".legend").forEach((legend) => {
    const section = legend.closest("section"), buttons = [...legend.querySelectorAll("button")];
    let held = null;
    const pick = (button) => {
      section.classList.toggle("picked", button !== null);
      section.querySelectorAll(".on").forEach((one) => one.classList.remove("on"));
      if (button) [button, ...section.querySelectorAll(`.s${CSS.escape(button.dataset.s)}`)].forEach((one) => one.classList.add("on"));
    };
    buttons.forEach((button) => {
      button.setAttribute("aria-pressed", "false");
      button.addEventListener("pointerenter", () => pick(button));
      button.addEventListener("pointerleave", () => pick(held));
      button.addEventListener("click", () => {
        held = held === button ? null : button;
        buttons.forEach((one) => one.setAttribute("aria-pressed", String(one === held)));
        pick(held);
      });
    });
  });

  // A table that is wider than its place says so, and how much of it is out of sight.
  const hint = (scroll) => {
    const said = scroll.previousElementSibling, edge = scroll.getBoundingClientRect().right;
    const heads = [...scroll.querySelectorAll("thead th")].filter((head) => head.offsetWidth > 0);
    const beyond = heads.filter((head) => head.getBoundingClientRect().right > edge + 1).length;
    said.hidden = scroll.scrollWidth <= scroll.clientWidth + 1;
    said.textContent = beyond > 0 ? `Scrolls sideways: ${beyond} more column${beyond > 1 ? "s" : ""} →` : "Scrolls sideways ←";
  };
  const scrolls = [...document.querySelectorAll(".scroll")];
  const hints = () => scrolls.forEach(hint);
  scrolls.forEach((one) => one.addEventListener("scroll", () => hint(one), { passive: true }));
  document.querySelectorAll("details").forEach((one) => one.addEventListener("toggle", hints));
  addEventListener("resize", hints);
  hints();

  // A section's link is copied as well as followed, where the browser allows it.
  document.querySelectorAll("a.anchor").forEach((link) => link.addEventListener("click", () => navigator.clipboard?.writeText(link.href).catch(() => {})));
})();
