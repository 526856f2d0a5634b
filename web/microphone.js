// Sound from the microphone, at the rate of the model.

/**
 * Record until `stop` is called.
 *
 * @param rateHz Rate of the samples; the browser resamples.
 * @param onSamples Called with consecutive mono pieces of about 0.05 s.
 * @param onEnd Called when the microphone stops by itself, for example because it is unplugged.
 * @returns A function that stops.
 * @throws An Error with a message for users.
 */
export async function record(rateHz, onSamples, onEnd) {
  if (!navigator.mediaDevices) {
    throw new Error("Browsers allow the microphone only to pages from https:// or from localhost.");
  }
  const context = new AudioContext({ sampleRate: rateHz });
  let stream;
  const stop = () => {
    stream?.getTracks().forEach((track) => track.stop());
    return context.close();
  };
  try {
    await context.audioWorklet.addModule("recorder.js");
    // Without the processing that browsers apply in calls: models are not trained on its result
    const audio = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    stream = await navigator.mediaDevices.getUserMedia({ audio });
    stream.getAudioTracks()[0].onended = onEnd;
    const recorder = new AudioWorkletNode(context, "recorder", {
      numberOfOutputs: 0,
      channelCount: 1,
      channelCountMode: "explicit",
      processorOptions: { pieceLength: Math.round(rateHz / 20) },
    });
    recorder.port.onmessage = ({ data }) => onSamples(data);
    context.createMediaStreamSource(stream).connect(recorder);
    await context.resume();
  } catch (error) {
    await stop();
    throw new Error(messages[error.name]?.(rateHz) ?? `The microphone cannot be used: ${error.message}`, { cause: error });
  }
  return stop;
}

const messages = {
  NotAllowedError: () => "The microphone is not allowed. Allow it for this page in the settings of the browser, then start again.",
  NotFoundError: () => "There is no microphone. Connect one, then start again.",
  NotReadableError: () => "The microphone is in use by another program, or was switched off.",
  NotSupportedError: (rateHz) => `This browser cannot record at ${rateHz} Hz. Open a recording instead, or use another browser.`,
};
