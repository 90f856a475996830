// What is wrong with the page that is open, as a list of sentences. Everything folded is unfolded first.
const problems = [];
const told = new Set();
const say = (kind, element, text) => {
  // One of a kind is enough: tables repeat their mistakes.
  const key = kind + element.tagName + element.className;
  if (told.has(key)) return;
  told.add(key);
  const words = (element.textContent || "").trim().slice(0, 40);
  problems.push(`${text}: ${element.outerHTML.slice(0, 120)} "${words}"`);
};
for (const fold of document.querySelectorAll("details")) fold.open = true;

const root = document.documentElement;
const isSeen = (element) => {
  const box = element.getBoundingClientRect();
  return element.checkVisibility({ visibilityProperty: true }) && box.width > 0 && box.height > 0;
};
const all = [...document.body.querySelectorAll("*")].filter(isSeen);

// Structure.
const headings = document.querySelectorAll("h1");
if (headings.length !== 1 || !headings[0].textContent.trim()) problems.push(`the page has ${headings.length} h1, or an empty one`);
if (!/\S.* · crashkeep$/s.test(document.title)) problems.push(`the title is "${document.title}"`);
if (!root.lang) problems.push("the page names no language");
const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
if (new Set(ids).size !== ids.length) problems.push(`an id stands twice among ${ids}`);
for (const element of document.querySelectorAll("[style], script")) say("style", element, "inline style or script");

// Nothing sticks out: neither over the page, where it scrolls sideways, nor under an edge that cuts it.
if (root.scrollWidth > root.clientWidth) {
  problems.push(`the page is ${root.scrollWidth} wide in a window of ${root.clientWidth}`);
  for (const element of all) {
    const isLeaf = !element.firstElementChild && !element.closest(".scroll");
    if (isLeaf && element.getBoundingClientRect().right > root.clientWidth + 1) {
      say("wide", element, "sticks out");
    }
  }
}
for (const element of all) {
  const clips = ["hidden", "clip"].includes(getComputedStyle(element).overflowX);
  const scrollsItself = element instanceof SVGElement || element.matches("input, select");
  if (clips && !scrollsItself && element.scrollWidth > element.clientWidth + 1) {
    say("cut", element, `${element.scrollWidth} wide content is cut at ${element.clientWidth}`);
  }
}

// Contrast of every text with what it stands on.
const colour = (text) => {
  const [r, g, b, a = 1] = text.match(/[\d.]+/g).map(Number);
  return [r, g, b, a];
};
const over = (front, back) => [0, 1, 2].map((i) => front[i] * front[3] + back[i] * (1 - front[3])).concat(1);
const luminance = (c) => {
  const [r, g, b] = c.slice(0, 3).map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ratio = (one, other) => {
  const [light, dark] = [luminance(one), luminance(other)].sort((a, b) => b - a);
  return (light + 0.05) / (dark + 0.05);
};
const ground = (element) => {
  const behind = element.parentElement ? ground(element.parentElement) : [255, 255, 255, 1];
  return over(colour(getComputedStyle(element).backgroundColor), behind);
};
const check = (element, text, what) => {
  const back = ground(element);
  const found = ratio(over(colour(text), back), back);
  if (found < 4.5) say(what, element, `${what} has contrast ${found.toFixed(2)}`);
};
let texts = 0;
for (const element of all) {
  const style = getComputedStyle(element);
  const hasText = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
  if (hasText) {
    texts += 1;
    check(element, element instanceof SVGElement ? style.fill : style.color, "text");
  }
  if (element.placeholder) check(element, getComputedStyle(element, "::placeholder").color, "placeholder");
}
if (texts < 10) problems.push(`only ${texts} texts were found to look at`);

// Each control says what it is for.
for (const element of document.querySelectorAll("input:not([type=hidden]), select, textarea, button")) {
  const named = element.getAttribute("aria-label") || [...(element.labels || [])].some((label) => label.textContent.trim());
  if (!named && !(element.tagName === "BUTTON" && element.textContent.trim())) say("label", element, "a control has no label");
}
for (const element of document.querySelectorAll("a[href]")) {
  if (!element.textContent.trim() && !element.getAttribute("aria-label")) say("link", element, "a link has no text");
}

// Targets for fingers: 24 pixels, or as much room around a smaller one. Links in a sentence are exempt.
// Source: WCAG 2.2, success criterion 2.5.8.
if (root.clientWidth < 600) {
  const inSentence = (element) => {
    const around = [...element.parentElement.childNodes];
    return element.tagName === "A" && around.some((node) => node.nodeType === Node.TEXT_NODE && /\p{L}/u.test(node.data));
  };
  const targets = all
    .filter((element) => element.matches("a[href], button, input, select, textarea, summary"))
    .map((element) => {
      const label = element.matches("[type=checkbox], [type=radio]") ? element.closest("label") : null;
      const box = (label || element).getBoundingClientRect();
      // A link over several lines is a box for each.
      const boxes = [...(label || element).getClientRects()];
      return { element, box, boxes, x: box.x + box.width / 2, y: box.y + box.height / 2, small: box.width < 24 || box.height < 24 };
    });
  for (const one of targets.filter((target) => target.small && !inSentence(target.element))) {
    const crowded = targets.some((other) => {
      if (other === one) return false;
      const far = other.small ? Math.hypot(other.x - one.x, other.y - one.y) : 24;
      return far < 24 || other.boxes.some((box) => {
        const dx = Math.max(box.left - one.x, 0, one.x - box.right);
        const dy = Math.max(box.top - one.y, 0, one.y - box.bottom);
        return Math.hypot(dx, dy) < 12;
      });
    });
    if (crowded) say("tap", one.element, `a target of ${Math.round(one.box.width)} x ${Math.round(one.box.height)} is crowded`);
  }
}
return problems;
