"use strict";
/* What the player shows: pictures, swipe and error map on canvases, and the controls, keys and pointers that change them. */
Object.assign(Player.prototype, {
  choice(slot, place = 0) { return this.panes[slot].querySelectorAll("select")[place].value; },

  paint() {
    if (!this.clip || !this.ready) return;
    if (this.options.swipe) {
      this.paintSwipe();
    } else {
      for (const slot of ["ori", "rec", "spatial"]) this.blit(slot, this.videos.get(this.choice(slot)));
    }
    this.blit("error", this.errorMap(this.videos.get(this.choice("error"))));
    this.root.dataset.painted = this.frame;
  },

  /* Size a canvas to its place on the screen and give its context. */
  canvas(slot) {
    const canvas = this.panes[slot].querySelector("canvas");
    const ratio = Math.min(2, window.devicePixelRatio || 1);
    const width = Math.round((canvas.clientWidth || this.clip.width) * ratio);
    const height = Math.round((width * this.clip.height) / this.clip.width);
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    canvas.classList.toggle("zoomed", this.view.zoom > 1);
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = this.view.zoom === 1;
    context.imageSmoothingQuality = "high";
    return context;
  },

  /* Draw the visible part of a picture over a canvas. */
  draw(context, picture) {
    const { width, height } = this.clip;
    const [w, h] = [width / this.view.zoom, height / this.view.zoom];
    const x = Math.min(width - w, Math.max(0, this.view.x * width - w / 2));
    const y = Math.min(height - h, Math.max(0, this.view.y * height - h / 2));
    context.drawImage(picture, x, y, w, h, 0, 0, context.canvas.width, context.canvas.height);
  },

  blit(slot, picture) {
    if (picture) this.draw(this.canvas(slot), picture);
  },

  paintSwipe() {
    const context = this.canvas("swipe");
    const { width, height } = context.canvas;
    const edge = Math.round(width * this.options.divider);
    this.draw(context, this.videos.get(this.choice("swipe", 1)));
    context.save();
    context.beginPath();
    context.rect(0, 0, edge, height);
    context.clip();
    this.draw(context, this.videos.get(this.choice("swipe", 0)));
    context.restore();
    context.fillStyle = "#fff";
    context.fillRect(edge - 1, 0, 2, height);
  },

  /* Colour the mean absolute difference over RGB between a video and the original. */
  errorMap(video) {
    if (!video) return null;
    const first = this.pixels("first", this.lead);
    const second = this.pixels("second", video);
    const target = this.scratch("target");
    const image = target.createImageData(this.clip.width, this.clip.height);
    const scale = 255 / (3 * this.data.errorCeiling);
    for (let at = 0; at < image.data.length; at += 4) {
      const sum = Math.abs(first[at] - second[at]) + Math.abs(first[at + 1] - second[at + 1]) + Math.abs(first[at + 2] - second[at + 2]);
      const level = 3 * Math.min(255, Math.floor(sum * scale));
      image.data[at] = this.colours[level];
      image.data[at + 1] = this.colours[level + 1];
      image.data[at + 2] = this.colours[level + 2];
      image.data[at + 3] = 255;
    }
    target.putImageData(image, 0, 0);
    return target.canvas;
  },

  scratch(name) {
    this.scratches = this.scratches || {};
    const { width, height } = this.clip;
    const known = this.scratches[name];
    if (!known || known.canvas.width !== width || known.canvas.height !== height) {
      const canvas = Object.assign(document.createElement("canvas"), { width, height });
      this.scratches[name] = canvas.getContext("2d", { willReadFrequently: true });
    }
    return this.scratches[name];
  },

  pixels(name, video) {
    const context = this.scratch(name);
    context.drawImage(video, 0, 0, this.clip.width, this.clip.height);
    return context.getImageData(0, 0, this.clip.width, this.clip.height).data;
  },

  bindControls() {
    const actions = {
      play: () => this.toggle(),
      back: () => { this.pause(); this.seek(this.frame - 1); },
      forward: () => { this.pause(); this.seek(this.frame + 1); },
    };
    for (const button of this.root.querySelectorAll("[data-do]")) button.addEventListener("click", actions[button.dataset.do]);
    for (const input of this.root.querySelectorAll("[data-set]")) input.addEventListener("change", () => this.set(input));
    for (const select of this.stage.querySelectorAll("select")) select.addEventListener("change", () => this.paint());
    this.scrub.addEventListener("input", () => { this.pause(); this.seek(Number(this.scrub.value)); });
    this.root.querySelector(".divider").addEventListener("input", (event) => {
      this.options.divider = event.target.value / 100;
      this.paint();
    });
  },

  set(input) {
    const value = input.type === "checkbox" ? input.checked : Number(input.value);
    if (input.dataset.set === "zoom") this.view.zoom = value;
    else this.options[input.dataset.set] = value;
    this.stage.dataset.mode = this.options.swipe ? "swipe" : "side";
    this.paint();
  },

  flip(name) {
    const input = this.root.querySelector(`[data-set=${name}]`);
    if (input.type === "checkbox") input.checked = !input.checked;
    else input.selectedIndex = (input.selectedIndex + 1) % input.options.length;
    this.set(input);
  },

  bindKeys() {
    const step = (frames) => { this.pause(); this.seek(this.frame + frames); };
    const clip = (by) => {
      const place = this.order.indexOf(this.index) + by + this.order.length;
      this.load(this.order[place % this.order.length]);
    };
    const keys = {
      " ": () => this.toggle(), k: () => this.toggle(),
      ArrowLeft: () => step(-1), ArrowRight: () => step(1), ",": () => step(-1), ".": () => step(1),
      Home: () => step(-Infinity), End: () => step(Infinity),
      ArrowUp: () => clip(-1), ArrowDown: () => clip(1),
      l: () => this.flip("loop"), s: () => this.flip("swipe"), z: () => this.flip("zoom"),
    };
    this.root.addEventListener("keydown", (event) => {
      const control = event.target.closest("select, input[type=search], .divider, button");
      const own = control && (control.tagName !== "BUTTON" || event.key === " " || event.key === "Enter");
      const action = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
      if (!action || own || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      action();
    });
  },

  bindPointer() {
    let last = null;
    const swipe = (event, canvas) => {
      const box = canvas.getBoundingClientRect();
      this.options.divider = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
      this.root.querySelector(".divider").value = 100 * this.options.divider;
    };
    for (const canvas of this.stage.querySelectorAll("canvas")) {
      const swiping = canvas.parentNode.dataset.slot === "swipe";
      canvas.addEventListener("pointerdown", (event) => {
        last = event;
        canvas.setPointerCapture(event.pointerId);
        if (swiping) swipe(event, canvas);
        this.paint();
      });
      canvas.addEventListener("pointermove", (event) => {
        if (!event.buttons || !last) return;
        if (swiping) swipe(event, canvas);
        else if (this.view.zoom > 1) this.pan(event.clientX - last.clientX, event.clientY - last.clientY, canvas);
        last = event;
        this.paint();
      });
    }
  },

  pan(dx, dy, canvas) {
    const half = 0.5 / this.view.zoom;
    const inside = (value) => Math.min(1 - half, Math.max(half, value));
    this.view.x = inside(this.view.x - dx / canvas.clientWidth / this.view.zoom);
    this.view.y = inside(this.view.y - dy / canvas.clientHeight / this.view.zoom);
  },
});
