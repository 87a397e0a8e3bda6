// What the cashier sees of the readers.
import { el, one, sign } from "./words.js";

// Readers that work are all alike to the cashier; one that does not has a name.
export function drawReaders(readers) {
  const [well, faulty] = [readers.filter((reader) => reader.ok), readers.filter((reader) => !reader.ok)];
  const count = well.length > 1 ? `${well.length} × ` : "";
  return [
    well.length ? el("li", { class: "ok" }, sign("chip"), count, one(well[0])) : null,
    faulty.map(({ name }) => el("li", { class: "faulty" }, sign("mark"), name))];
}

// What is wrong with several readers alike is said once; the banner has their names.
export function isNewFault(reader, index, readers) {
  const isSame = (other) => !other.ok && other.da === reader.da && other.en === reader.en;
  return !reader.ok && readers.findIndex(isSame) === index;
}

// Nobody can pay; a till without any reader has none that fails.
export function isDeaf(readers) {
  return readers.length > 0 && readers.every((reader) => !reader.ok);
}
