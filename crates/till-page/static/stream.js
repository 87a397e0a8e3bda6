// The till's event stream, and whether the till is there at all.
//
// It is read with fetch, since an EventSource does not tell of the heartbeats between the events.

const SILENCE_MS = 5000;
const AGAIN_MS = 500;

/** Follows the stream for ever: `show` gets each state, `lose` is told when the till is gone. */
export async function follow(address, show, lose) {
  let heard = performance.now();

  async function read(reader) {
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      heard = performance.now();
      const blocks = (rest + value).split(/\r?\n\r?\n/);
      rest = blocks.pop();
      for (const block of blocks) {
        const data = block.split(/\r?\n/).filter((line) => line.startsWith("data:"));
        if (data.length > 0) show(JSON.parse(data.map((line) => line.slice(5)).join("\n")));
      }
    }
  }

  for (;;) {
    const cut = new AbortController();
    const begun = performance.now();
    const watch = setInterval(() => {
      if (performance.now() - heard > SILENCE_MS) lose();
      if (performance.now() - Math.max(heard, begun) > SILENCE_MS) cut.abort();
    }, 250);
    try {
      const headers = { Accept: "text/event-stream" };
      const answer = await fetch(address, { headers, cache: "no-store", signal: cut.signal });
      if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
      await read(answer.body.pipeThrough(new TextDecoderStream()).getReader());
    } catch {
      lose();
    }
    clearInterval(watch);
    await new Promise((again) => setTimeout(again, AGAIN_MS));
  }
}
