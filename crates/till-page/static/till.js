// The cashier page follows the till: it draws each whole state and sends what is pressed.
import { guardKeys } from "./keys.js";
import { readyKeypad } from "./keypad.js";
import { drawReaders, isDeaf, isNewFault } from "./readers.js";
import { offerSound, sound } from "./sound.js";
import { follow } from "./stream.js";
import { readyUndo } from "./undo.js";
import { byId, el, one, sign, toast, told, two, word } from "./words.js";

const VERDICT_MS = 8000;
const CONFIRM_MS = 6000;
const ANSWER_MS = 4000;

let state = JSON.parse(document.body.dataset.state);
const boot = state.boot;

// Redraws a part only when its value changed, so that a button is never swapped under a finger.
const drawn = {};
function draw(id, value, build) {
  const key = JSON.stringify(value);
  if (drawn[id] === key) return false;
  drawn[id] = key;
  byId(id).replaceChildren(...build(value).flat().filter((child) => child != null));
  return true;
}

// Pressing. Presses go out one after the other, in the order of the fingers.

let presses = Promise.resolve();
function press(path, body) {
  presses = presses.then(() => post(path, body));
  return presses;
}

async function post(path, body) {
  try {
    const answer = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(ANSWER_MS),
    });
    if (answer.ok) return;
    const problem = await answer.json().catch(() => ({ title: `HTTP ${answer.status}` }));
    const said = [problem.title, problem.detail].filter(Boolean).join(": ");
    toast({ da: problem.da ?? said, en: problem.en ?? said });
  } catch {
    toast(word("no-answer"));
  }
}

let paying = false;
async function pay() {
  paying = true;
  drawControls();
  await press("/checkout/pay", {});
  paying = false;
  drawControls();
}

// A second press before the next state would hit the line that moved up.
let removing = false;
function remove(line) {
  if (removing) return;
  removing = true;
  press("/basket/lines/remove", { index: line.index }).then(() => (removing = false));
}

const undoing = readyUndo((id, lines) => press("/sales/void", { id, lines }));

// A sale of one piece is undone in its row, others in a dialog.
let confirming = null;
function askToUndo(sale) {
  if (sale.pieces.reduce((sum, { left }) => sum + left, 0) > 1) return undoing.ask(sale);
  confirming = sale.id;
  drawRecent();
  setTimeout(() => { if (confirming === sale.id) stopAsking(); }, CONFIRM_MS);
}

function stopAsking() {
  confirming = null;
  drawRecent();
}

// Drawing.

function drawAll() {
  const { line, readers, notices, products, basket } = state;
  byId("banner").dataset.line = line.state;
  draw("line", line, () => [sign(line.state === "online" ? "cloud" : "cut"), one(line.text)]);
  draw("readers", readers, drawReaders);
  draw("notices", [readers, notices], () => [
    readers.filter(isNewFault).map((reader) => told(reader, "faulty")),
    notices.map((notice) => told(notice))]);
  if (draw("shelves", products, drawShelves)) fitShelves();
  if (draw("lines", basket.lines, drawLines)) byId("lines").lastElementChild?.scrollIntoView();
  byId("total").textContent = basket.total;
  drawStage();
  drawRecent();
  undoing.follow(state.recent);
  drawControls();
}

function drawStage() {
  const scene = verdictScene() ?? otherScene();
  byId("stage").className = `stage ${scene.kind}`;
  byId("countdown").hidden = scene.kind !== "waiting";
  draw("stage", scene, ({ sign: name, title, detail, figure, name: who, photo, top_up }) => [
    el("div", { class: "disc" }, sign(name)),
    el("div", { class: "told" },
      two(title, "title"),
      figure && el("div", { class: "figure" }, two(figure.label, "label"), el("b", {}, figure.amount))),
    (detail || top_up) && el("div", { class: "more" }, detail && two(detail, "detail"), top_up && two(top_up, "top-up")),
    (who || photo) && el("figure", { class: "person" },
      photo && el("img", { src: photo, alt: "", error: (event) => event.target.remove() }),
      who && el("figcaption", {}, who))]);
}

const SIGNS = { approved: "tick", declined: "cross", attention: "mark" };
let shown = { id: null };
let first = true;

// A verdict stays until the basket changes, the next payment begins, or its time is over.
function verdictScene() {
  const { verdict, basket, phase } = state;
  if (!verdict) return null;
  const lines = JSON.stringify(basket.lines);
  if (verdict.id !== shown.id) {
    shown = { id: verdict.id, lines, phase, hidden: false };
    if (!first) sound(verdict.kind);
    setTimeout(() => hideVerdict(verdict.id), VERDICT_MS);
  } else if (basket.lines.length > 0 && lines !== shown.lines) shown.hidden = true;
  else if (phase === "waiting" && shown.phase !== "waiting") shown.hidden = true;
  return shown.hidden ? null : { ...verdict, id: null, sign: SIGNS[verdict.kind] };
}

function hideVerdict(id) {
  if (shown.id !== id) return;
  shown.hidden = true;
  drawStage();
}

function otherScene() {
  const { phase, chip, basket, readers, journal_ok } = state;
  if (!journal_ok) {
    return { kind: "declined", sign: "cross", title: word("no-journal"), detail: word("no-journal-how") };
  }
  const figure = { label: word("to-pay"), amount: `${basket.total} kr.` };
  const noReader = { sign: "mark", title: word("no-reader"), detail: word("no-reader-how") };
  if (phase === "waiting") {
    return { kind: "waiting", figure, ...(isDeaf(readers) ? noReader : { sign: "chip", title: word("hold") }) };
  }
  if (phase === "deciding") return { kind: "waiting deciding", sign: "chip", title: word("deciding"), figure };
  if (chip) {
    return { ...chip, kind: chip.usable ? "chip" : "attention", sign: chip.usable ? "chip" : "mark",
      title: chip.usable ? word("on-reader") : chip.status, detail: chip.usable ? chip.status : null,
      figure: chip.balance && { label: word("balance"), amount: chip.balance } };
  }
  if (isDeaf(readers)) return { kind: "attention", ...noReader };
  const detail = word(basket.lines.length ? "press-pay" : "ready-how");
  return { kind: "ready", sign: "tick", title: word("ready"), detail };
}

function drawLines(lines) {
  if (lines.length === 0) return [el("li", { class: "empty" }, one(word("empty")))];
  return lines.map((line) => el("li", {},
    el("span", { class: "quantity" }, `${line.quantity}×`),
    el("span", { class: "text" }, line.text),
    el("span", { class: "amount" }, line.amount),
    el("button", { type: "button", class: "remove", click: () => remove(line) },
      sign("cross"), el("span", { class: "unseen" }, one(word("remove")), ` ${line.text}`))));
}

function drawRecent() {
  const { recent } = state;
  draw("recent", [recent, confirming], () => recent.length
    ? recent.slice(0, 3).map(drawSale) : [el("li", { class: "empty" }, one(word("none-yet")))]);
}

function drawSale(sale) {
  const button = (id, kind, click) => el("button", { type: "button", class: kind, click }, one(word(id)));
  const undo = () => { stopAsking(); press("/sales/void", { id: sale.id, lines: [] }); };
  const asked = confirming === sale.id;
  return el("li", { class: sale.kind },
    el("span", { class: "time" }, sale.time),
    sign({ approved: "tick", declined: "cross", voided: "undo" }[sale.kind]),
    el("span", { class: "amount" }, sale.amount),
    asked ? button("undo-yes", "undo sure", undo) : el("span", { class: "what" }, one(sale.title), sale.name && el("span", { class: "who" }, sale.name)),
    asked ? button("no", "undo", stopAsking)
      : sale.voidable ? button("undo", "undo", () => askToUndo(sale)) : null);
}

function drawControls() {
  const { phase, basket, journal_ok } = state;
  const free = phase === "open" || phase === "done";
  const empty = basket.lines.length === 0;
  byId("pay").disabled = !free || empty || paying || !journal_ok;
  byId("clear").disabled = empty;
  byId("clear").hidden = byId("other").hidden = !free;
  byId("cancel").hidden = free;
  byId("cancel").disabled = phase !== "waiting";
  byId("shelves").inert = byId("lines").inert = !free;
  if (!free) byId("keypad").close();
}

// Products stand under their headings while all of them fit, if need be closer together, else behind
// one tab per heading.

function drawShelves(products) {
  const categories = [...new Set(products.map((product) => product.category))];
  byId("categories").replaceChildren(...categories.map((category, i) =>
    el("button", { type: "button", class: `tint-${i % 6}`, click: () => chooseShelf(i) }, category)));
  if (products.length === 0) return [two(word("no-products"), "empty")];
  return categories.map((category, i) => el("section", { class: `shelf tint-${i % 6}` },
    el("h2", {}, category),
    el("div", { class: "grid" }, products.filter((product) => product.category === category).map((product) =>
      el("button", { type: "button", class: "product", click: () => press("/basket/lines", { product: product.id }) },
        el("span", {}, product.name), el("b", {}, product.price))))));
}

let shelf = 0;
function chooseShelf(chosen) {
  shelf = chosen;
  [...byId("categories").children].forEach((tab, i) => tab.setAttribute("aria-pressed", i === chosen));
  [...byId("shelves").children].forEach((section, i) => section.classList.toggle("chosen", i === chosen));
}

const FITS = ["", "dense", "tabs"];
function fitShelves() {
  const [box, shelves] = [byId("shelves").parentElement, byId("shelves")];
  for (const fit of FITS) {
    box.className = `products ${fit}`;
    if (shelves.scrollHeight <= shelves.clientHeight) break;
  }
  chooseShelf(Math.min(shelf, byId("categories").children.length - 1));
}

// Following.

let deadline = 0;
function handleState(next) {
  if (next.boot !== boot) return location.reload();
  setLost(false);
  showState(next);
}

function showState(next) {
  state = next;
  deadline = performance.now() + (state.waiting_until ?? 0);
  drawAll();
  tick();
  first = false;
}

function setLost(lost) {
  byId("lost").hidden = !lost;
  byId("till").inert = byId("banner").inert = lost;
  if (!lost) return;
  byId("keypad").close();
  undoing.close();
}

function tick() {
  byId("clock").textContent = CLOCK.format(new Date());
  byId("countdown").textContent = `${Math.max(0, Math.ceil((deadline - performance.now()) / 1000))} s`;
}
const CLOCK = new Intl.DateTimeFormat("en-GB", { timeZone: "Europe/Copenhagen", hour: "2-digit", minute: "2-digit" });

function chooseLanguage(language) {
  document.documentElement.lang = document.documentElement.dataset.language = language;
  localStorage.setItem("language", language);
  for (const button of document.querySelectorAll("[data-choose]")) {
    button.setAttribute("aria-pressed", button.dataset.choose === language);
  }
}

byId("pay").addEventListener("click", pay);
byId("clear").addEventListener("click", () => press("/basket/clear", {}));
byId("cancel").addEventListener("click", () => press("/checkout/cancel", {}));
byId("line").addEventListener("click", () => press("/sync/now", {}));
for (const button of document.querySelectorAll("[data-choose]")) {
  button.addEventListener("click", () => chooseLanguage(button.dataset.choose));
}
// Notices come and go above the shelves, and take their room.
new ResizeObserver(fitShelves).observe(byId("till"));
chooseLanguage(localStorage.getItem("language") === "en" ? "en" : "da");
showState(state);
setInterval(tick, 250);
readyKeypad((amount) => press("/basket/lines", { line: `1x Diverse ${amount}` }));
guardKeys(() => toast(word("keyboard")));
offerSound(byId("sound"));
follow("/events", handleState, () => setLost(true));
