// An exported model (`hf-ast export --to onnx`): its metadata, and scores of windows of a waveform.

import * as ort from "./ort.wasm.min.mjs";

ort.env.wasm.numThreads = 1; // more threads need headers that static hosts do not send
ort.env.wasm.proxy = true; // in a worker, so that the page stays responsive

export class Classifier {
  /** Load `metadata.json` and the file that it names. */
  static async load(folder) {
    const metadata = await (await fetched(`${folder}/metadata.json`)).json();
    if (metadata.input !== "waveform") {
      throw new Error(`The model takes ${metadata.input}; export it again with --from waveform.`);
    }
    const bytes = new Uint8Array(await (await fetched(`${folder}/${metadata.file}`)).arrayBuffer());
    const numBytes = bytes.byteLength; // the worker takes the bytes with it
    return new Classifier(metadata, await ort.InferenceSession.create(bytes), numBytes);
  }

  constructor(metadata, session, numBytes) {
    this.session = session;
    this.numBytes = numBytes;
    this.inputName = metadata.input_name;
    this.activation = activations[metadata.activation];
    this.labels = metadata.labels;
    this.rateHz = metadata.sampling_rate;
    this.minLength = metadata.pads_short_clips ? 1 : metadata.min_length; // in samples
    this.inputLength = metadata.min_length; // of the shortest input, to which zeros continue a shorter window
    this.maxLength = metadata.max_length;
  }

  /** Scores (C) of each window; the windows are arrays of samples, all of the same length. */
  async score(windows) {
    const length = Math.max(windows[0].length, this.inputLength);
    const batch = new Float32Array(windows.length * length);
    windows.forEach((window, i) => batch.set(window, i * length));
    const input = new ort.Tensor("float32", batch, [windows.length, length]);
    const { logits } = await this.session.run({ [this.inputName]: input });
    const numLabels = this.labels.length;
    return windows.map((_, i) => this.activation(logits.data.slice(i * numLabels, (i + 1) * numLabels)));
  }
}

const activations = {
  sigmoid: (logits) => logits.map((logit) => 1 / (1 + Math.exp(-logit))),
  softmax: (logits) => {
    const largest = logits.reduce((a, b) => Math.max(a, b));
    const exp = logits.map((logit) => Math.exp(logit - largest));
    const sum = exp.reduce((a, b) => a + b);
    return exp.map((value) => value / sum);
  },
  none: (logits) => logits,
};

async function fetched(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url} cannot be loaded: status ${response.status}.`);
  return response;
}
