/*
 * Follows a stream, and returns the notes of an EventSource until it closes; for the EventSource of browsers and
 * of Node.
 */

// This many errors without a stream in between show that the client would retry for ever.
const ENOUGH = 4;

// Milliseconds: far more than any script takes, so that only a missing end causes this timeout.
const PATIENCE = 20_000;

export function record(EventSource, url, types) {
  return new Promise((resolve) => {
    const notes = [];
    const source = new EventSource(url);
    const end = () => {
      clearTimeout(timer);
      source.close();
      resolve(notes);
    };
    const giveUp = (why) => {
      notes.push([why, source.readyState]);
      end();
    };
    const timer = setTimeout(giveUp, PATIENCE, "waited in vain");
    let errors = 0;
    const note = ({ type, data, lastEventId }) => {
      if (data !== undefined) {
        notes.push([type, data, lastEventId]);
        if (type === "seen") fetch(url.replace("/run/", "/seen/"), { method: "POST" });
        return;
      }
      notes.push([type, source.readyState]);
      errors = type === "error" ? errors + 1 : 0;
      if (source.readyState === 2) end();
      else if (errors === ENOUGH) giveUp("given up");
    };
    for (const type of new Set(["open", "error", "message", ...types])) source.addEventListener(type, note);
  });
}
