(() => {
  "use strict";
  const raw = document.getElementById("charts-data").textContent;
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  const boxes = () => document.querySelectorAll(".chart .canvas");
  let views = [];

  const figures = () => Object.values(Bokeh.index).filter((view) => view?.model?.x_range);

  async function draw() {
    const dark = scheme.matches;
    const swaps = new Map(dark ? Object.entries(JSON.parse(raw).dark) : []);
    const { doc, roots } = JSON.parse(raw, (_, value) => swaps.get(value) ?? value);
    for (const view of views) view.clear();
    for (const box of boxes()) box.replaceChildren();
    document.documentElement.dataset.drawn = dark ? "dark" : "light";
    const item = { docid: "charts", roots, root_ids: Object.keys(roots) };
    views = await Bokeh.embed.embed_items({ charts: doc }, [item]);
    // A finger that drags wants to scroll the page, not to zoom.
    if (matchMedia("(pointer: coarse)").matches) {
      for (const view of figures()) view.model.toolbar.active_drag = null;
    }
  }

  function zoomOut() {
    for (const view of figures()) view.model.x_range.reset();
  }

  // A printed page is laid out anew without another drawing: it gets a picture that scales.
  function forPrint() {
    for (const view of figures()) {
      const picture = view.export("png", false).canvas;
      picture.className = "printed";
      view.el.parentElement?.append(picture);
    }
  }

  function afterPrint() {
    for (const picture of document.querySelectorAll(".printed")) picture.remove();
  }

  for (const box of boxes()) box.addEventListener("dblclick", zoomOut);
  addEventListener("beforeprint", forPrint);
  addEventListener("afterprint", afterPrint);
  scheme.addEventListener("change", draw);
  draw();
})();
