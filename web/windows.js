// Windows over a recording, as hf_ast/inference/windows.py places them. Lengths are in samples.

/** First samples of the windows that cover a recording; a recording shorter than a window is one window. */
export function coveringStarts(numSamples, window, hop) {
  const starts = [];
  for (let start = 0; start + window <= numSamples; start += hop) starts.push(start);
  const last = Math.max(0, numSamples - window);
  if (starts.at(-1) !== last) starts.push(last);
  return starts;
}

/** The windows of a stream, from samples that arrive in pieces; the last window is kept in a ring buffer. */
export class WindowStream {
  constructor(window, hop) {
    this.ring = new Float32Array(window);
    this.hop = hop;
    this.numSamples = 0;
  }

  /** Take the next samples, and return the windows that they complete: `{start, samples}`. */
  push(piece) {
    const complete = [];
    const window = this.ring.length;
    for (const sample of piece) {
      this.ring[this.numSamples++ % window] = sample;
      const start = this.numSamples - window;
      if (start >= 0 && start % this.hop === 0) complete.push({ start, samples: this.#unrolled(start % window) });
    }
    return complete;
  }

  /** The window that ends with the stream, unless it was complete before. */
  flush() {
    const length = Math.min(this.numSamples, this.ring.length);
    const start = this.numSamples - length;
    if (!length || (length === this.ring.length && start % this.hop === 0)) return [];
    return [{ start, samples: this.#unrolled(start % this.ring.length).subarray(0, length) }];
  }

  #unrolled(first) {
    const samples = new Float32Array(this.ring.length);
    samples.set(this.ring.subarray(first));
    samples.set(this.ring.subarray(0, first), this.ring.length - first);
    return samples;
  }
}
