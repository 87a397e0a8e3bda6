// The sounds of verdicts, so that the cashier can look at the queue.

const TONES = {
  approved: { shape: "sine", notes: [[660, 0, 0.13], [990, 0.14, 0.22]] },
  declined: { shape: "square", notes: [[165, 0, 0.75]] },
  attention: { shape: "triangle", notes: [[520, 0, 0.18]] },
};
const audio = new AudioContext();

/** Plays the sound of a kind of verdict: notes of [Hz, start in s, length in s]. */
export function sound(kind) {
  if (audio.state !== "running") return;
  const { shape, notes } = TONES[kind];
  for (const [frequency, start, length] of notes) {
    const [tone, gain, at] = [audio.createOscillator(), audio.createGain(), audio.currentTime + start];
    tone.type = shape;
    tone.frequency.value = frequency;
    gain.gain.setValueAtTime(shape === "square" ? 0.25 : 0.6, at);
    gain.gain.exponentialRampToValueAtTime(0.001, at + length);
    tone.connect(gain).connect(audio.destination);
    tone.start(at);
    tone.stop(at + length);
  }
}

/** Shows a button for as long as the browser waits for a touch before it plays anything. */
export function offerSound(button) {
  const tell = () => { button.hidden = audio.state === "running"; };
  document.addEventListener("pointerdown", () => audio.resume());
  audio.addEventListener("statechange", tell);
  tell();
}
