"use strict";
/* Clip player: several videos of one clip on one clock, drawn on canvases so that zoom, swipe and error map share one view.
   The first video leads; while it plays the others are held to it, and when it stands still every frame is sought exactly. */
class Player {
  constructor(root, data) {
    this.root = root;
    this.data = data;
    this.colours = Uint8Array.from(atob(data.errorColours), (c) => c.charCodeAt(0));
    this.stage = root.querySelector(".stage");
    this.scrub = root.querySelector(".scrub");
    this.panes = Object.fromEntries([...root.querySelectorAll(".pane")].map((pane) => [pane.dataset.slot, pane]));
    this.view = { zoom: 1, x: 0.5, y: 0.5 };
    this.options = { loop: true, speed: 1, swipe: false, divider: 0.5 };
    this.videos = new Map();
    this.urls = [];
    this.frame = 0;
    this.wanted = null;
    this.listeners = [];
    this.buildPicker();
    this.bindControls();
    this.bindKeys();
    this.bindPointer();
    new ResizeObserver(() => this.paint()).observe(this.stage);
  }

  on(listener) { this.listeners.push(listener); }
  tell(what) { for (const listener of this.listeners) listener(what, this); }

  buildPicker() {
    const scored = this.data.metrics.filter((metric) => this.data.clips.some((clip) => this.score(clip, metric.key) !== null));
    const select = this.root.querySelector("[data-order]");
    select.replaceChildren(...scored.map((metric) => new Option(`worst ${metric.label} first`, metric.key)), new Option("by name", "name"));
    select.addEventListener("change", () => this.sortPicker(select.value));
    this.buttons = this.data.clips.map((clip, index) => this.pickerButton(clip, index));
    this.sortPicker(select.value);
  }

  pickerButton(clip, index) {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("role", "option");
    button.title = [clip.id, ...clip.notes].join(", ");
    const image = document.createElement("img");
    image.src = clip.poster;
    image.alt = "";
    const [score, name, notes] = ["score", "name", "notes"].map((kind) => Object.assign(document.createElement("span"), { className: kind }));
    name.textContent = clip.id;
    notes.textContent = clip.notes.join(", ");
    button.append(image, score, name, notes);
    button.addEventListener("click", () => this.load(index));
    return button;
  }

  score(clip, key) {
    const value = clip.means.rec && clip.means.rec[key];
    return value === undefined || value === null || value === "" ? null : value;
  }

  /* Put the clips in order, the worst by a metric first; those without a score last. */
  sortPicker(key) {
    const metric = this.data.metrics.find((entry) => entry.key === key);
    const clips = this.data.clips;
    const badness = (index) => {
      const value = this.score(clips[index], key);
      return value === null ? Infinity : metric.higher ? value : -value;
    };
    this.order = clips.map((_, index) => index).sort((a, b) => {
      if (!metric) return clips[a].id.localeCompare(clips[b].id);
      const [first, second] = [badness(a), badness(b)];
      return first === second ? 0 : first - second;
    });
    const shown = metric || this.data.metrics[0];
    this.buttons.forEach((button, index) => {
      const value = this.score(clips[index], shown.key);
      button.querySelector(".score").textContent = value === null ? "not scored" : `${value.toFixed(shown.decimals)} ${shown.unit || shown.label}`;
    });
    this.root.querySelector(".picker").replaceChildren(...this.order.map((index) => this.buttons[index]));
  }

  async load(index) {
    this.pause();
    this.index = index;
    this.clip = this.data.clips[index];
    this.frame = 0;
    this.wanted = null;
    this.videos.clear();
    this.urls.splice(0).forEach((url) => URL.revokeObjectURL(url));
    this.root.dataset.state = "loading";
    this.root.dataset.clip = this.clip.id;
    this.describe();
    const loading = this.clip.videos.map((entry) => this.open(entry));
    const clip = this.clip;
    try {
      await Promise.all(loading);
    } catch (error) {
      if (clip === this.clip) this.fail();
      return;
    }
    if (clip !== this.clip) return;
    this.root.dataset.state = "paused";
    await this.seek(0);
  }

  open(entry) {
    const text = this.root.parentNode.querySelector(`script[data-clip="${this.index}"][data-video="${entry.key}"]`).textContent;
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const url = URL.createObjectURL(new Blob([bytes], { type: "video/mp4" }));
    this.urls.push(url);
    const video = document.createElement("video");
    Object.assign(video, { muted: true, playsInline: true, preload: "auto", src: url });
    this.videos.set(entry.key, video);
    return new Promise((resolve, reject) => {
      video.addEventListener("loadeddata", resolve, { once: true });
      video.addEventListener("error", () => reject(new Error("cannot play")), { once: true });
      video.load();
    });
  }

  fail() {
    this.root.dataset.state = "failed";
    this.root.querySelector(".clip-source").textContent = "This browser cannot play H.264 video.";
  }

  describe() {
    this.root.querySelector(".clip-name").textContent = this.clip.id;
    this.root.querySelector(".clip-source").textContent = this.data.sources[this.clip.id] || "";
    this.buttons.forEach((button, index) => {
      button.setAttribute("aria-selected", String(index === this.index));
      if (index === this.index) {
        const picker = button.parentNode;
        const ends = [button.offsetLeft - picker.offsetLeft, button.offsetLeft - picker.offsetLeft + button.offsetWidth - picker.clientWidth];
        picker.scrollLeft = Math.min(ends[0], Math.max(ends[1], picker.scrollLeft));
      }
    });
    this.scrub.max = this.clip.frames - 1;
    this.root.toggleAttribute("data-still", this.clip.frames < 2);
    const keys = this.clip.videos.map((video) => video.key);
    const defaults = { ori: ["ori"], rec: ["rec"], spatial: ["spatial"], swipe: ["ori", "rec"], error: ["rec"] };
    for (const [slot, pane] of Object.entries(this.panes)) {
      pane.querySelectorAll("select").forEach((select, place) => {
        const before = select.value || defaults[slot][place];
        const choices = this.clip.videos.filter((video) => slot !== "error" || video.key !== "ori");
        select.replaceChildren(...choices.map((video) => new Option(video.label, video.key)));
        const fitting = keys.includes(before) ? before : defaults[slot][place];
        select.value = keys.includes(fitting) ? fitting : choices[choices.length - 1].value;
      });
    }
    this.tell("clip");
  }

  get lead() { return this.videos.get("ori"); }
  get ready() { return this.root.dataset.state === "paused" || this.root.dataset.state === "playing"; }
  get playing() { return this.root.dataset.state === "playing"; }
  time(frame) { return (frame + 0.5) / this.clip.fps; }
  frameAt(time) { return Math.min(this.clip.frames - 1, Math.max(0, Math.floor(time * this.clip.fps + 1e-3))); }

  /* Go to a frame in every video; while a jump is under way only the newest wish is kept. */
  async seek(frame) {
    if (!this.ready) return;
    const target = Math.min(this.clip.frames - 1, Math.max(0, Math.round(frame)));
    this.show(target);
    if (this.wanted !== null) { this.wanted = target; return; }
    this.wanted = target;
    let done = -1;
    while (this.wanted !== null && done !== this.wanted) {
      done = this.wanted;
      const clip = this.clip;
      await Promise.all([...this.videos.values()].map((video) => this.move(video, this.time(done))));
      if (clip !== this.clip) { this.wanted = null; return; }
    }
    this.wanted = null;
    this.paint();
    this.tell("sought");
  }

  move(video, time) {
    const reachable = Math.min(time, Math.max(0, video.duration - 1e-3) || time);
    if (Math.abs(video.currentTime - reachable) < 1e-4 && !video.seeking) return Promise.resolve();
    return new Promise((resolve) => {
      const done = () => { clearTimeout(timer); video.removeEventListener("seeked", done); resolve(); };
      const timer = setTimeout(done, 2000);
      video.addEventListener("seeked", done);
      video.currentTime = reachable;
    });
  }

  show(frame) {
    this.frame = frame;
    this.scrub.value = frame;
    this.scrub.setAttribute("aria-valuetext", `frame ${frame} of ${this.clip.frames - 1}`);
    this.root.dataset.frame = frame;
    this.root.querySelector(".clock").textContent = this.clip.frames < 2
      ? "a single frame"
      : `frame ${frame} of ${this.clip.frames - 1} · ${(frame / this.clip.fps).toFixed(2)} s`;
    this.tell("frame");
  }

  async play() {
    if (!this.ready || this.playing || this.clip.frames < 2) return;
    if (this.frame >= this.clip.frames - 1) await this.seek(0);
    this.root.dataset.state = "playing";
    this.root.querySelector(".play").setAttribute("aria-label", "Pause");
    for (const video of this.videos.values()) {
      video.playbackRate = this.options.speed;
      video.play().catch(() => this.pause());
    }
    requestAnimationFrame(() => this.tick());
  }

  pause() {
    if (!this.playing) return;
    this.root.dataset.state = "paused";
    this.root.querySelector(".play").setAttribute("aria-label", "Play");
    for (const video of this.videos.values()) video.pause();
    this.seek(this.frame);
  }

  toggle() { if (this.playing) this.pause(); else this.play(); }

  async tick() {
    if (!this.playing) return;
    const lead = this.lead;
    if (lead.ended) {
      if (!this.options.loop) { this.show(this.clip.frames - 1); this.pause(); return; }
      await Promise.all([...this.videos.values()].map((video) => this.move(video, 0)));
      if (!this.playing) return;
      for (const video of this.videos.values()) video.play().catch(() => this.pause());
    }
    const now = lead.currentTime;
    for (const video of this.videos.values()) {
      if (video === lead || video.ended) continue;
      const drift = video.currentTime - now;
      if (Math.abs(drift) > 3 / this.clip.fps && !video.seeking) video.currentTime = now;
      video.playbackRate = this.options.speed * (1 - Math.min(0.2, Math.max(-0.2, drift * 4)));
    }
    this.show(this.frameAt(now));
    this.paint();
    requestAnimationFrame(() => this.tick());
  }
}
