// Events from the scores of windows: those of `hf_ast.tag` with a threshold, which `hf_ast.EventRule` explains.

/** Events of a stream, each as soon as no later window can change it. Times are in samples. */
export class EventFinder {
  /** Cells of time are as long as the hop. */
  constructor(labels, { hop, threshold }) {
    this.labels = labels;
    this.hop = hop;
    this.threshold = Math.fround(threshold);
    this.windows = [];
    this.cell = 0; // number of the first cell that is not settled
    this.open = labels.map(() => null); // the event that each label is in
  }

  /** Take the next window, and return the events that are settled now: `{label, start, end, peak}`. */
  add(scores, start, length) {
    this.windows.push({ scores, start, end: start + length });
    const events = [];
    while ((this.cell + 0.5) * this.hop <= start) events.push(...this.#settle((this.cell + 1) * this.hop));
    this.windows = this.windows.filter((window) => window.end > this.cell * this.hop);
    return events;
  }

  /** End the stream, and return the events that are left. */
  finish() {
    const end = this.windows.at(-1)?.end ?? 0;
    const events = [];
    while (this.cell * this.hop < end) events.push(...this.#settle(Math.min((this.cell + 1) * this.hop, end)));
    const last = this.open.filter((event) => event).map((event) => ({ ...event, end }));
    return [...events, ...last];
  }

  /** Score the next cell, the mean over the windows that cover its middle, and return the events that end before it. */
  #settle(end) {
    const start = this.cell++ * this.hop;
    const middle = (start + end) / 2;
    const covering = this.windows.filter((window) => window.start <= middle && middle < window.end);
    return this.labels.flatMap((label, index) => {
      const score = Math.fround(covering.reduce((sum, { scores }) => sum + scores[index], 0) / covering.length);
      const event = this.open[index];
      if (score > this.threshold) {
        this.open[index] = { label, start: event?.start ?? start, peak: Math.max(score, event?.peak ?? score) };
        return [];
      }
      this.open[index] = null;
      return event ? [{ ...event, end: start }] : [];
    });
  }
}

/** Events of windows of one length: in the order of their starts; those that start together, by falling peak. */
export function findEvents(scores, starts, length, labels, settings) {
  const finder = new EventFinder(labels, settings);
  const events = scores.flatMap((row, i) => finder.add(row, starts[i], length));
  return [...events, ...finder.finish()].sort(
    (a, b) => a.start - b.start || b.peak - a.peak || labels.indexOf(a.label) - labels.indexOf(b.label),
  );
}
