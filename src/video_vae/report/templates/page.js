"use strict";
/* Start everything, and mark the section in view in the list of sections. */
(() => {
  const data = JSON.parse(document.getElementById("clips-data").textContent);
  const root = document.getElementById("player");
  const player = root ? new Player(root, data) : null;
  const open = (index) => {
    player.load(index);
    root.scrollIntoView({ block: "start" });
    root.focus({ preventScroll: true });
  };
  const table = new ClipTable(document.getElementById("clip-table"), data.table, open);
  if (player) {
    new Charts(root.querySelector(".charts"), player);
    player.on((what) => { if (what === "clip") table.mark(player.clip.id); });
    player.load(player.order[0]);
  }

  const links = new Map([...document.querySelectorAll(".top a")].map((link) => [link.hash.slice(1), link]));
  const seen = new Set();
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) seen.add(entry.target.id);
      else seen.delete(entry.target.id);
    }
    const first = [...document.querySelectorAll("main > section")].find((section) => seen.has(section.id));
    for (const [id, link] of links) {
      if (first && id === first.id) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }, { rootMargin: "-20% 0px -70% 0px" });
  document.querySelectorAll("main > section").forEach((section) => watch.observe(section));
})();
