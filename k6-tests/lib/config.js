// The configuration of a run, read once from the environment: addresses of the services, load and duration. All scripts read
// the same variables; README.md lists them. An invalid value ends the run before the load, with one line that names the
// variable, the value and the allowed values.

// Written by `./study contract --json`.
const CONTRACT = JSON.parse(open('../contract.json'));
const names = CONTRACT.services.map((service) => service.name.replace(/service$/, ''));
const firstPort = Object.fromEntries(CONTRACT.modes.map((mode) => [mode.name, mode.ports.first_service]));

export const SCENARIOS = CONTRACT.scenarios.map((scenario) => scenario.key);
// k6 groups answers by route instead of by URL.
export const routes = Object.fromEntries(CONTRACT.scenarios.map(({ key, method, path }) => [key, `${method} ${path}`]));

// Virtual users of S1, S2, S3 and S5, virtual users of S4, requests per second of S6, seconds.
const PROFILES = JSON.parse(open('../profiles.json')).closed;
const REFERENCE_SECONDS = 30; // without PROFILE: the users and rates of medium, for 30 s
const HIGHEST_RATE = 100000; // per second; k6 makes virtual users in advance for what arrives at the same time
const LOWEST_RATE = 0.001; // k6 takes whole numbers only: one in 1000 s
const LONGEST_SECONDS = 7 * 24 * 3600;

// An empty variable counts as unset: compose files pass empty values.
const text = (name) => __ENV[name] || '';

function refuse(name, why) {
  const value = text(name);
  throw new Error(`${name}=${value.length > 80 ? `${value.slice(0, 80)}...` : value} ${why}`);
}

function number(name, fallback, [least, most], whole = true) {
  if (!text(name)) return fallback;
  const value = /^\d+(\.\d+)?$/.test(text(name)) ? Number(text(name)) : NaN;
  const kind = whole ? 'a whole number' : 'a number';
  if (!(value >= least && value <= most) || (whole && !Number.isInteger(value))) refuse(name, `is not ${kind} from ${least} to ${most}`);
  return value;
}

function oneOf(name, allowed, fallback) {
  if (!text(name)) return fallback;
  if (!allowed.includes(text(name))) refuse(name, `is unknown: take one of ${allowed.join(', ')}`);
  return text(name);
}

// The base address of every service in this mode, without the slash at the end. A BASE_URL with {service} in it is the whole address:
// between containers each service has a name, and all have the same port.
export function addresses(mode) {
  const base = (text('BASE_URL') || 'http://localhost').replace(/\/+$/, '');
  const offset = number('PORT_OFFSET', 0, [0, 65535 - Math.max(...Object.values(firstPort)) - names.length + 1]);
  if (base.includes('{service}')) {
    if (!/^https?:\/\/[^\s/]+(\/\S*)?$/.test(base)) refuse('BASE_URL', 'is not an address such as http://{service}service:8000');
    return Object.fromEntries(names.map((name) => [name, base.replace('{service}', name)]));
  }
  if (!/^https?:\/\/([^\s/@]+@)?(\[[0-9a-fA-F:.]+\]|[^\s/@:[\]]+)$/.test(base)) {
    refuse('BASE_URL', 'is not a host without a port, such as http://localhost: each service has a port of its own (PORT_OFFSET moves them), or say http://{service}service:8000');
  }
  return Object.fromEntries(names.map((name, i) => [name, `${base}:${firstPort[mode] + offset + i}`]));
}

// DURATION takes k6's format ("45s", "2m", "1h30m"); a bare number means seconds.
function durationSeconds(fallback) {
  const said = text('DURATION');
  if (!said) return fallback;
  const units = { ms: 0.001, s: 1, m: 60, h: 3600, d: 86400 };
  const parts = /^\d+$/.test(said) ? [`${said}s`] : /^(\d+(\.\d+)?(ms|[smhd]))+$/.test(said) ? said.match(/[\d.]+[a-z]+/g) : [];
  const seconds = parts.reduce((sum, part) => sum + parseFloat(part) * units[part.replace(/[\d.]+/, '')], 0);
  if (!(seconds >= 1 && seconds <= LONGEST_SECONDS)) refuse('DURATION', 'is not a time such as 45, 45s, 2m or 1h30m, of at least 1 s and at most 7 days');
  return seconds;
}

// "1/15s" -> one in 15 s; 5 -> five in 1 s; 0.4 -> 400 in 1000 s (k6 takes whole rates only). Undefined if it is no rate.
function arrival(rate) {
  const said = typeof rate === 'number' ? String(rate) : typeof rate === 'string' ? rate : '';
  const words = /^(\d+)\/(\d+)s$/.exec(said);
  const perSecond = words ? Number(words[1]) / Number(words[2]) : /^\d+(\.\d+)?$/.test(said) ? Number(said) : NaN;
  if (!(perSecond >= LOWEST_RATE && perSecond <= HIGHEST_RATE)) return undefined;
  if (words) return { rate: Number(words[1]), timeUnit: `${words[2]}s`, perSecond };
  if (Number.isInteger(perSecond)) return { rate: perSecond, timeUnit: '1s', perSecond };
  return { rate: Math.round(perSecond * 1000), timeUnit: '1000s', perSecond };
}

function object(name, example) {
  let value;
  try {
    value = JSON.parse(text(name));
  } catch {
    refuse(name, `is not JSON: say ${example}`);
  }
  if (value === null || typeof value !== 'object' || Array.isArray(value)) refuse(name, `is not a JSON object: say ${example}`);
  return value;
}

// Scenario -> arrival rate, of the variable `name`.
function arrivals(name, rates, example) {
  const isObject = rates !== null && typeof rates === 'object' && !Array.isArray(rates);
  if (!isObject || !Object.keys(rates).length) refuse(name, `has no rates: say ${example}`);
  const read = ([scenario, rate]) => {
    if (!SCENARIOS.includes(scenario)) refuse(name, `names ${JSON.stringify(scenario)}, which is no scenario: take some of ${SCENARIOS.join(', ')}`);
    const known = arrival(rate);
    if (!known) refuse(name, `has ${JSON.stringify(rate)} for ${scenario}: say a rate per second such as 5 or 0.5, or "1/15s", from ${LOWEST_RATE} to ${HIGHEST_RATE} per second`);
    return [scenario, known];
  };
  return Object.fromEntries(Object.entries(rates).map(read));
}

function ratesOf() {
  const example = '{"s1":5,"s4":"1/15s"}';
  const rates = text('RATES') ? object('RATES', example) : { s1: 5, s2: 5, s3: 5, s4: '1/15s', s5: 5, s6: 100 };
  return arrivals('RATES', rates, example);
}

function burstOf(rates, seconds) {
  if (!text('BURST')) return null;
  const example = '{"after":20,"seconds":20,"rates":{"s6":"1000"}}';
  const burst = object('BURST', example);
  const others = Object.keys(burst).filter((key) => !['after', 'seconds', 'rates'].includes(key));
  if (others.length) refuse('BURST', `has ${JSON.stringify(others[0])}, which is unknown: say ${example}`);
  if (!(Number.isInteger(burst.after) && burst.after >= 0 && Number.isInteger(burst.seconds) && burst.seconds >= 1)) {
    refuse('BURST', `needs whole seconds, "after" of at least 0 and "seconds" of at least 1: say ${example}`);
  }
  if (burst.after + burst.seconds > seconds) refuse('BURST', `ends after the load, which lasts ${seconds} s (DURATION)`);
  const known = { after: burst.after, seconds: burst.seconds, rates: arrivals('BURST', burst.rates, example) };
  const alone = Object.keys(known.rates).find((scenario) => !rates[scenario]);
  if (alone) refuse('BURST', `names ${alone}, which RATES leaves out`);
  return known;
}

// k6 writes the summary at the end; if that fails, k6 logs the error and still exits with 0. A script cannot write files, so the
// check before the load uses the error of open(). It tries names that do not exist first: open() never returns from a device.
function summaryFile() {
  const file = text('SUMMARY_FILE');
  // open() resolves a relative path against the script, k6 writes it against the current directory.
  const path = file.startsWith('/') || !file ? file : `${__ENV.PWD}/${file}`;
  if (!path || path.startsWith('undefined')) return file;
  const said = (place) => {
    try {
      open(place);
      return '';
    } catch (error) {
      return String(error);
    }
  };
  const isNoFolder = (place) => /not a directory/i.test(said(`${place}/no-such-file`));
  const isFolder = (place) => !isNoFolder(place) && /directories|is a directory/i.test(said(place));
  const folder = path.slice(0, path.lastIndexOf('/')) || '/';
  if (isNoFolder(folder) || /no such file/i.test(said(folder))) refuse('SUMMARY_FILE', `cannot be written: there is no folder ${folder}`);
  if (isFolder(path)) refuse('SUMMARY_FILE', 'is a folder: name a file');
  return file;
}

function runId() {
  // Part of S1's e-mail addresses and of every x-request-id.
  if (text('RUN_ID') && !/^[A-Za-z0-9][A-Za-z0-9_-]{0,47}$/.test(text('RUN_ID'))) {
    refuse('RUN_ID', 'is not 1 to 48 letters, digits, - and _, the first a letter or digit');
  }
  return text('RUN_ID');
}

const profileName = oneOf('PROFILE', Object.keys(PROFILES), '');
const profile = profileName ? PROFILES[profileName] : { ...PROFILES.medium, seconds: REFERENCE_SECONDS };
// closed: virtual users that wait for the answer, then pause; open: fixed arrival rates, independent of the answers;
// busy: virtual users that wait for the answer and do not pause.
const load = oneOf('LOAD', ['closed', 'open', 'busy'], 'closed');
const seconds = durationSeconds(profile.seconds);
// Arrival rates of the open load, per second ("5") or in words ("1/15s": one in 15 s).
const rates = ratesOf();

export const config = {
  load,
  limits: oneOf('LIMITS', ['on', 'off'], 'on') === 'on',
  profile,
  seconds,
  duration: `${seconds}s`,
  rates,
  // Other rates for a part of an open load: {"after": 20, "seconds": 20, "rates": {"s6": "1000"}}.
  burst: burstOf(rates, seconds),
  users: number('USERS', 10, [1, 10000]), // of a busy load, in each scenario that RATES names
  pauseMs: number('PAUSE_MS', 0, [0, 3600000]), // of each of these users after an answer
  // Open load: the time without answers for which k6 has enough virtual users.
  hiccupMs: number('HICCUP_MS', 500, [0, 7200000]),
  seed: number('SEED', 1, [0, Number.MAX_SAFE_INTEGER]),
  payload: number('PAYLOAD', 0, [0, 4096]), // characters of a product's name in S3; 0 leaves the name as it is
  run: runId(),
  summaryFile: summaryFile(),
  // The delays of the services under test: the checks "took > n ms" follow them.
  emailMs: number('EMAIL_DELAY_MS', 500, [0, 3600000], false),
  paymentMs: number('PAYMENT_DELAY_MS', 2000, [0, 3600000], false),
  reportMs: number('REPORT_SECONDS', 10, [0, 3600], false) * 1000,
};
