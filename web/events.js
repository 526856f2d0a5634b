// Events from the scores of consecutive windows: the rule of `hf_ast.find_events`, which explains it.

const LEAST_SHARE = 1 / 2;
const EXTENT_SHARE = 2 / 3;

/**
 * Find when labels are heard.
 *
 * @param scores Scores of K windows, C numbers each.
 * @param times Start and end of each window, in samples: K pairs, both ascending.
 * @param labels Names of the classes, C.
 * @param threshold Score that makes an event; a run of windows ends below half of it.
 * @returns `{label, start, end, peak}` in the order of their starts; those that start together, by falling peak.
 */
export function findEvents(scores, times, labels, threshold) {
  const moments = new Moments(times);
  const events = [];
  labels.forEach((label, index) => {
    for (const { first, last, peak } of runs(scores, index, threshold / 2)) {
      const extent = peak >= threshold && moments.extent(first, last);
      if (extent) events.push({ label, ...extent, peak });
    }
  });
  return events.sort((a, b) => a.start - b.start || b.peak - a.peak);
}

/** Events of a stream, each as soon as no later window can change it. Memory grows only with the longest event. */
export class EventStream {
  /** Lengths in samples. */
  constructor(labels, { window, hop, threshold }) {
    this.labels = labels;
    this.threshold = threshold;
    this.length = window;
    this.hop = hop;
    this.scores = [];
    this.times = [];
    this.settled = -Infinity; // events that end until then are settled
  }

  /** Take the scores of the next window, and return the events that are settled now. */
  add(scores, start) {
    this.scores.push(scores);
    this.times.push([start, start + this.length]);
    const events = this.#undecided();
    const open = events.filter((event) => event.end > start);
    this.settled = start;
    // Two windows earlier, because a run from the first window that is kept would seem to begin earlier
    const oldest = Math.min(this.#startOfRuns(), ...open.map((event) => event.start)) - 2 * this.length;
    const numOld = this.times.findIndex((time) => time[0] >= oldest);
    this.times.splice(0, numOld);
    this.scores.splice(0, numOld);
    return events.filter((event) => event.end <= start);
  }

  /** Return the events that are left when the stream has ended, as if nothing were heard after it. */
  finish() {
    for (let shift = this.hop; this.times.length && shift < this.length; shift += this.hop) {
      this.scores.push(new Float32Array(this.labels.length));
      this.times.push(this.times.at(-1).map((time) => time + this.hop));
    }
    return this.#undecided();
  }

  /** Start of the first window of all runs that last. */
  #startOfRuns() {
    let first = this.times.length - 1;
    this.labels.forEach((_, index) => {
      let i = this.times.length;
      while (i > 0 && this.scores[i - 1][index] >= this.threshold / 2) i--;
      first = Math.min(first, i);
    });
    return this.times[first][0];
  }

  #undecided() {
    const events = findEvents(this.scores, this.times, this.labels, this.threshold);
    return events.filter((event) => event.end > this.settled);
  }
}

/** First and last window of each run whose scores are at least `release`, and the largest score in it. */
function* runs(scores, index, release) {
  let run = null;
  for (let i = 0; i < scores.length; i++) {
    const score = scores[i][index];
    if (score >= release) {
      run ??= { first: i, peak: score };
      run = { ...run, last: i, peak: Math.max(run.peak, score) };
    } else if (run) {
      yield run;
      run = null;
    }
  }
  if (run) yield run;
}

/**
 * All stretches of time between starts and ends of windows, each with the windows that cover it.
 *
 * Beyond both ends of the recording, windows are added that hear what the outermost one hears, because fewer windows
 * cover a moment there.
 */
class Moments {
  constructor(times) {
    this.numWindows = times.length;
    this.recording = times.length ? { start: times[0][0], end: times.at(-1)[1] } : null;
    this.numAdded = 0;
    let all = times;
    if (times.length > 2) {
      const hop = times[1][0] - times[0][0];
      this.numAdded = Math.ceil((times[0][1] - times[0][0]) / hop) - 1;
      const shifts = Array.from({ length: this.numAdded }, (_, i) => (i + 1) * hop);
      const before = shifts.map((shift) => times[0].map((time) => time - shift)).reverse();
      const after = shifts.map((shift) => times.at(-1).map((time) => time + shift));
      all = [...before, ...times, ...after];
    }
    this.starts = all.map(([start]) => start);
    this.ends = all.map(([, end]) => end);
    this.edges = Float64Array.from(new Set([...this.starts, ...this.ends])).sort();
    this.edgeNumbers = new Map(Array.from(this.edges, (edge, i) => [edge, i]));
    let first = 0;
    let last = -1;
    this.covering = Array.from(this.edges, (edge) => {
      while (this.ends[first] <= edge) first++;
      while (this.starts[last + 1] <= edge) last++;
      return [first, last];
    });
  }

  /** Start and end of the event that the windows from `first` to `last` hear, or null. */
  extent(first, last) {
    first = first === 0 ? 0 : first + this.numAdded;
    last += this.numAdded * (last === this.numWindows - 1 ? 2 : 1);
    const low = this.edgeNumbers.get(this.starts[first]);
    const high = this.edgeNumbers.get(this.ends[last]);
    const shares = this.covering
      .slice(low, high)
      .map(([a, b]) => (Math.min(b, last) - Math.max(a, first) + 1) / (b - a + 1));
    const largest = shares.reduce((a, b) => Math.max(a, b));
    if (largest < LEAST_SHARE) return null;
    const isHeard = (share) => share >= EXTENT_SHARE * largest;
    const start = Math.max(this.edges[low + shares.findIndex(isHeard)], this.recording.start);
    const end = Math.min(this.edges[low + shares.findLastIndex(isHeard) + 1], this.recording.end);
    return start < end ? { start, end } : null;
  }
}
