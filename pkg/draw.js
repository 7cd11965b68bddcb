// Painting boxes, masks and labels over a picture, by the rules of BuboGPT's demo: dark colour for outlines and label
// grounds, light colour half and half with the picture inside a mask, the later mask wins.

/** Black or white, whichever stands out more from a colour `#rrggbb` (WCAG's relative luminance). */
export function textOn(color) {
  const [red, green, blue] = channels(color).map((value) => (value <= 10 ? value / 3294 : ((value / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? "black" : "white";
}

function channels(color) {
  return [1, 3, 5].map((at) => Number.parseInt(color.slice(at, at + 2), 16));
}

/** Indices of the things under a point of the picture, the one on top first. */
export function hitTest(things, x, y) {
  const inBox = ({ box: [x0, y0, x1, y1] }) => x >= x0 && x < x1 && y >= y0 && y < y1;
  const hit = (thing) => (thing.mask ? thing.mask.contains(x, y) : inBox(thing));
  return things.map((thing, index) => (hit(thing) ? index : -1)).filter((index) => index >= 0).reverse();
}

/**
 * Paints the picture and what was found in it, filling the canvas at its present size.
 * @param {HTMLCanvasElement | OffscreenCanvas} canvas
 * @param {CanvasImageSource & {width: number, height: number}} image the picture that the boxes and masks refer to
 * @param {{things: object[], entities?: object[]}} found a scene or an answer; of an answer only what it names is shown
 * @param {{highlight?: number | number[], labels?: boolean, lineWidth?: number, fontPx?: number}} [options]
 *   `highlight`: indices of things that light up while the rest dims; sizes are in the canvas's pixels
 */
export function draw(canvas, image, found, options = {}) {
  const context = canvas.getContext("2d");
  const shorter = Math.min(canvas.width, canvas.height);
  const { labels = true, lineWidth = Math.max(1.5, shorter / 200), fontPx = Math.max(11, shorter / 26) } = options;
  const lit = options.highlight === undefined ? null : new Set([options.highlight].flat());
  const shown = shownThings(found, lit);
  const scale = [canvas.width / image.width, canvas.height / image.height];
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.globalAlpha = 1;
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  paintMasks(context, shown);
  if (lit) dimRest(context, shown, scale);
  for (const { thing } of shown) outline(context, thing, scale, lineWidth);
  if (labels) paintLabels(context, shown, scale, fontPx);
}

/** Things with the words of their labels: of an answer, those that it names, by the answer's own words. */
function shownThings({ things, entities }, lit) {
  const words = new Map();
  for (const { phrase, things: indices } of entities ?? []) {
    for (const index of indices) if (!words.has(index)) words.set(index, phrase);
  }
  const named = words.size > 0 && !(lit && [...lit].some((index) => !words.has(index)));
  return things
    .map((thing, index) => ({ thing, index, label: words.get(index) ?? thing.tag }))
    .filter(({ index }) => (lit ? lit.has(index) : !named || words.has(index)));
}

function scratch(canvas) {
  const layer = new OffscreenCanvas(canvas.width, canvas.height);
  return [layer, layer.getContext("2d")];
}

function paintMasks(context, shown) {
  const masked = shown.filter(({ thing }) => thing.mask);
  if (masked.length === 0) return;
  const [union, layer] = scratch(context.canvas);
  for (const { thing } of masked) layer.drawImage(maskLayer(thing), 0, 0, union.width, union.height);
  context.globalAlpha = 0.5;
  context.drawImage(union, 0, 0);
  context.globalAlpha = 1;
}

/** Darkens the picture to two fifths where none of the shown things is. */
function dimRest(context, shown, scale) {
  const [shade, layer] = scratch(context.canvas);
  layer.fillStyle = "rgb(0 0 0 / 60%)";
  layer.fillRect(0, 0, shade.width, shade.height);
  layer.globalCompositeOperation = "destination-out";
  layer.fillStyle = "black";
  for (const { thing } of shown) {
    if (thing.mask) layer.drawImage(maskLayer(thing), 0, 0, shade.width, shade.height);
    else layer.fillRect(...rectangle(thing, scale));
  }
  context.drawImage(shade, 0, 0);
}

function rectangle({ box: [x0, y0, x1, y1] }, [scaleX, scaleY]) {
  return [x0 * scaleX, y0 * scaleY, (x1 - x0) * scaleX, (y1 - y0) * scaleY];
}

/** Follows the mask's edge; a thing without a mask gets its box. */
function outline(context, thing, scale, lineWidth) {
  if (thing.mask) {
    context.drawImage(edgeLayer(thing, context.canvas, lineWidth), 0, 0);
    return;
  }
  const [left, top, width, height] = rectangle(thing, scale);
  context.lineWidth = lineWidth;
  context.strokeStyle = thing.color;
  context.beginPath();
  context.roundRect(left, top, width, height, Math.min(3 * lineWidth, width / 2, height / 2));
  context.stroke();
}

/** Masks do not change, so what is painted of them is kept as long as they are. */
const layers = new WeakMap();

function kept(thing, key, make) {
  let forMask = layers.get(thing.mask);
  if (!forMask) layers.set(thing.mask, forMask = new Map());
  const found = forMask.get(key.slot);
  if (found?.key === key.value) return found.layer;
  const layer = make();
  forMask.set(key.slot, { key: key.value, layer });
  return layer;
}

function maskLayer(thing) {
  return kept(thing, { slot: "fill", value: thing.lightColor }, () => {
    const layer = new OffscreenCanvas(thing.mask.width, thing.mask.height);
    layer.getContext("2d").putImageData(thing.mask.toImageData(channels(thing.lightColor)), 0, 0);
    return layer;
  });
}

/** The mask widened by half a line in sixteen directions, in the dark colour, without the mask itself. */
function edgeLayer(thing, { width, height }, lineWidth) {
  return kept(thing, { slot: "edge", value: `${thing.color} ${width} ${height} ${lineWidth}` }, () => {
    const fill = maskLayer(thing);
    const layer = new OffscreenCanvas(width, height);
    const context = layer.getContext("2d");
    for (let step = 0; step < 16; step += 1) {
      const angle = (step / 16) * 2 * Math.PI;
      context.drawImage(fill, lineWidth * Math.cos(angle), lineWidth * Math.sin(angle), width, height);
    }
    context.globalCompositeOperation = "destination-out";
    context.drawImage(fill, 0, 0, width, height);
    context.globalCompositeOperation = "source-in";
    context.fillStyle = thing.color;
    context.fillRect(0, 0, width, height);
    return layer;
  });
}

/** Labels at the boxes' upper left corners, moved down where they would cover one another. */
function paintLabels(context, shown, scale, fontPx) {
  const { width: canvasWidth, height: canvasHeight } = context.canvas;
  const padding = fontPx * 0.4;
  const height = fontPx * 1.5;
  const placed = [];
  context.font = `600 ${fontPx}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  for (const { thing, label } of shown) {
    const width = Math.min(context.measureText(label).width + 2 * padding, canvasWidth);
    const [boxLeft, boxTop] = rectangle(thing, scale);
    const left = Math.min(Math.max(0, boxLeft), canvasWidth - width);
    let top = Math.min(Math.max(0, boxTop - height / 2), Math.max(0, canvasHeight - height));
    const covers = (other) => left < other.right && left + width > other.left && top < other.bottom && top + height > other.top;
    for (let other = placed.find(covers); other; other = placed.find(covers)) top = other.bottom + 1;
    placed.push({ left, right: left + width, top, bottom: top + height });
    context.fillStyle = thing.color;
    context.beginPath();
    context.roundRect(left, top, width, height, fontPx * 0.3);
    context.fill();
    context.fillStyle = textOn(thing.color);
    context.fillText(label, left + padding, top + height / 2, width - 2 * padding);
  }
}
