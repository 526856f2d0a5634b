// Runs in the audio thread: passes on what it hears, in pieces longer than the 128 samples that it is given.

class Recorder extends AudioWorkletProcessor {
  constructor({ processorOptions }) {
    super();
    this.piece = new Float32Array(processorOptions.pieceLength);
    this.numSamples = 0;
  }

  process([[channel]]) {
    for (const sample of channel ?? []) {
      this.piece[this.numSamples++] = sample;
      if (this.numSamples === this.piece.length) {
        this.port.postMessage(this.piece);
        this.numSamples = 0;
      }
    }
    return true;
  }
}

registerProcessor("recorder", Recorder);
