// The page: the microphone live, or a recording as a whole.

import { Classifier } from "./classifier.js";
import { EventFinder, findEvents } from "./events.js";
import { record } from "./microphone.js";
import { WindowStream, coveringStarts } from "./windows.js";

const NUM_BARS = 5;
const BATCH_SIZE = 8;
// Number of windows that may wait before the device counts as too slow
const MAX_WAITING = 10;

const element = (id) => document.getElementById(id);
// Speech Commands and others give such names to labels for everything that belongs to no class
const isListed = (label) => !/^_.*_$/.test(label);
let classifier;
let listed; // Numbers of the labels that are listed
let stopListening = null;

async function start() {
  try {
    classifier = await Classifier.load("model");
  } catch (error) {
    say("");
    return complain(`The model cannot be loaded: ${error.message}`);
  }
  const { labels, numBytes, rateHz, minLength, inputLength, maxLength } = classifier;
  listed = Array.from(labels.keys()).filter((index) => isListed(labels[index]));
  element("about").prepend(`${labels.length} labels, ${(numBytes / 1e6).toFixed(1)} MB. `);
  const input = element("window");
  input.min = Math.max(minLength, inputLength) / rateHz;
  input.max = maxLength / rateHz;
  input.value = element("hop").value = input.max; // side by side, as in `hf_ast.tag`
  element("listen").onclick = () => (stopListening ? stopListening() : listen());
  element("file").onchange = openFile;
  setIdle(true);
  say("Ready.");
}

/** The settings in samples, or null with a message if one of them is out of range. */
function settings() {
  const form = element("settings");
  form.closest("details").open ||= !form.checkValidity();
  if (!form.reportValidity()) return null;
  const samples = (id) => Math.round(element(id).valueAsNumber * classifier.rateHz);
  const [window, hop] = [samples("window"), samples("hop")];
  if (hop > window) {
    complain("The time between windows must not be longer than a window: sound between them would be left out.");
    return null;
  }
  return { window, hop, threshold: element("threshold").valueAsNumber };
}

/** Label the microphone until it is stopped. */
async function listen() {
  clear();
  const chosen = settings();
  if (!chosen) return;
  setIdle(false);
  say("Waiting for the microphone…");
  const windows = new WindowStream(chosen.window, chosen.hop);
  const events = new EventFinder(pick(classifier.labels), chosen);
  let waiting = 0;
  let work = Promise.resolve();
  let isOn = true;
  let stop = async () => {};
  const end = async (message) => {
    if (!isOn) return;
    isOn = false;
    stopListening = null;
    element("listen").textContent = "Start microphone";
    await stop();
    if (!message) windows.flush().forEach((window) => (work = work.then(() => score(window))));
    await work;
    events.finish().forEach(list);
    element("now").hidden = true;
    say("Stopped.");
    if (message) complain(message);
    setIdle(true);
  };
  const score = async ({ start, samples }) => {
    const [scores] = await classifier.score([samples]);
    waiting--;
    if (isOn) showBars(scores);
    events.add(pick(scores), start, samples.length).forEach(list);
  };
  const onSamples = (piece) => {
    if (!isOn) return;
    for (const window of windows.push(piece)) {
      waiting++;
      work = work.then(() => score(window)).catch((error) => void end(`The model failed: ${error.message}`));
    }
    if (waiting > MAX_WAITING) end("This device is too slow; choose a longer time between windows in the settings.");
  };
  try {
    stop = await record(classifier.rateHz, onSamples, () => end("The microphone was disconnected."));
  } catch (error) {
    isOn = false;
    say("");
    complain(error.message);
    return setIdle(true);
  }
  if (!isOn) return stop(); // it failed before it could be stopped
  stopListening = () => end();
  element("listen").textContent = "Stop";
  element("listen").disabled = false;
  element("now").hidden = false;
  say("Listening.");
}

/** Label a recording as a whole. */
async function openFile() {
  const [file] = element("file").files;
  if (!file) return;
  element("file").value = ""; // so that the same file can be chosen again
  clear();
  const chosen = settings();
  if (!chosen) return;
  setIdle(false);
  try {
    say(`Reading ${file.name}…`);
    const samples = await read(file);
    const { rateHz, labels } = classifier;
    const starts = coveringStarts(samples.length, chosen.window, chosen.hop);
    const length = Math.min(chosen.window, samples.length);
    const scores = [];
    while (scores.length < starts.length) {
      const batch = starts.slice(scores.length, scores.length + BATCH_SIZE);
      scores.push(...(await classifier.score(batch.map((first) => samples.subarray(first, first + length)))));
      say(`${file.name}: ${Math.round((100 * scores.length) / starts.length)} %`);
    }
    findEvents(scores.map(pick), starts, length, pick(labels), chosen).reverse().forEach(list);
    say(`${file.name}: ${(samples.length / rateHz).toFixed(1)} s`);
    if (!element("heard").rows.length) element("nothing").textContent = "None of the labels was heard.";
  } catch (error) {
    say("");
    complain(error.message);
  }
  setIdle(true);
}

/** The samples of a file, at the rate of the model: the mean of its channels. */
async function read(file) {
  const { rateHz, minLength } = classifier;
  let audio;
  try {
    audio = await new OfflineAudioContext(1, 1, rateHz).decodeAudioData(await file.arrayBuffer());
  } catch (error) {
    throw new Error(`${file.name} cannot be read: it is damaged, or in a format that this browser does not know.`, { cause: error });
  }
  if (audio.length < minLength) {
    throw new Error(`${file.name} is too short: ${audio.duration.toFixed(3)} s, but the model needs ${minLength / rateHz} s.`);
  }
  const samples = new Float32Array(audio.length);
  for (let channel = 0; channel < audio.numberOfChannels; channel++) {
    audio.getChannelData(channel).forEach((sample, i) => (samples[i] += sample / audio.numberOfChannels));
  }
  return samples;
}

const pick = (values) => listed.map((index) => values[index]);

/** Add an event on top of the list. */
function list({ label, start, end, peak }) {
  const row = element("heard").insertRow(0);
  const seconds = (samples) => (samples / classifier.rateHz).toFixed(2);
  row.insertCell().textContent = `${seconds(start)} – ${seconds(end)} s`;
  row.insertCell().textContent = label;
  row.insertCell().textContent = percent(peak);
  element("nothing").hidden = true;
}

function showBars(scores) {
  const order = Array.from(scores.keys()).sort((a, b) => scores[b] - scores[a]).slice(0, NUM_BARS);
  element("bars").replaceChildren(...order.map((index) => bar(classifier.labels[index], scores[index])));
}

function bar(label, score) {
  const [item, name, track, fill, number] = ["li", "span", "span", "span", "span"].map((tag) => document.createElement(tag));
  name.className = "label";
  name.textContent = label;
  track.className = "bar";
  fill.style.width = percent(Math.min(1, Math.max(0, score)));
  track.append(fill);
  number.className = "number";
  number.textContent = percent(score);
  item.append(name, track, number);
  return item;
}

const percent = (score) => `${(100 * score).toFixed(0)}%`;

function clear() {
  element("error").hidden = true;
  element("heard").replaceChildren();
  element("bars").replaceChildren();
  element("nothing").textContent = "Nothing yet.";
  element("nothing").hidden = false;
}

function say(message) {
  element("status").textContent = message;
}

function complain(message) {
  element("error").textContent = message;
  element("error").hidden = false;
}

function setIdle(isIdle) {
  for (const id of ["listen", "file", "window", "hop", "threshold"]) element(id).disabled = !isIdle;
}

start();
