// What a run is made of, read from the environment once: where the services are, how hard they are
// loaded and for how long. Both scripts read the same variables; README.md lists them.

// Written by `./study contract --json`.
const CONTRACT = JSON.parse(open('../contract.json'));
const names = CONTRACT.services.map((service) => service.name.replace(/service$/, ''));
const firstPort = Object.fromEntries(CONTRACT.modes.map((mode) => [mode.name, mode.ports.first_service]));

export const SCENARIOS = CONTRACT.scenarios.map((scenario) => scenario.key);

// Virtual users of S1, S2, S3 and S5, virtual users of S4, requests per second of S6, seconds.
const PROFILES = JSON.parse(open('../profiles.json')).closed;
const REFERENCE_SECONDS = 30; // without PROFILE: the users and rates of medium, for 30 s

function number(name, fallback) {
  const text = __ENV[name];
  if (text === undefined || text === '') return fallback;
  const value = Number(text);
  if (!Number.isFinite(value) || value < 0) throw new Error(`${name}=${text} is not a number of 0 or more`);
  return value;
}

function profile() {
  const name = __ENV.PROFILE;
  if (!name) return { ...PROFILES.medium, seconds: REFERENCE_SECONDS, name: 'reference' };
  if (!PROFILES[name]) throw new Error(`PROFILE=${name} is unknown: take one of ${Object.keys(PROFILES).join(', ')}`);
  return { ...PROFILES[name], name };
}

// The base address of every service in this mode, without the slash at the end. A BASE_URL with {service} in it is the whole address:
// between containers each service has a name, and all have the same port.
export function addresses(mode) {
  const base = (__ENV.BASE_URL || 'http://localhost').replace(/\/+$/, '');
  if (base.includes('{service}')) return Object.fromEntries(names.map((name) => [name, base.replace('{service}', name)]));
  const first = firstPort[mode] + number('PORT_OFFSET', 0);
  return Object.fromEntries(names.map((name, i) => [name, `${base}:${first + i}`]));
}

// DURATION takes what k6 takes ("45s", "2m"); a bare number means seconds.
function duration(fallback) {
  const text = __ENV.DURATION;
  if (!text) return `${fallback}s`;
  return /^\d+$/.test(text) ? `${text}s` : text;
}

const chosen = profile();

export const config = {
  // closed: virtual users that wait for their answer, then pause; open: fixed arrival rates, whatever the answers do;
  // busy: users that wait for their answer and do not pause.
  load: __ENV.LOAD || 'closed',
  open: __ENV.LOAD === 'open',
  limits: __ENV.LIMITS !== 'off',
  profile: chosen,
  duration: duration(chosen.seconds),
  // Arrival rates of the open load, per second ("5") or in words ("1/15s": one in 15 s).
  rates: __ENV.RATES ? JSON.parse(__ENV.RATES) : { s1: 5, s2: 5, s3: 5, s4: '1/15s', s5: 5, s6: 100 },
  // For some time of an open load other rates: {"after": 20, "seconds": 20, "rates": {"s6": "1000"}}.
  burst: __ENV.BURST ? JSON.parse(__ENV.BURST) : null,
  users: number('USERS', 10), // of a busy load, in each scenario that RATES names
  pauseMs: number('PAUSE_MS', 0), // of each of these users after an answer
  // Of an open load: so long answers may stay away before k6 lacks users.
  hiccupMs: number('HICCUP_MS', 500),
  seed: number('SEED', 1),
  payload: number('PAYLOAD', 0), // characters of a product's name in S3; 0 leaves the name as it is
  run: __ENV.RUN_ID || '',
  summaryFile: __ENV.SUMMARY_FILE || '',
  // The delays of the services under test: the checks "took > n ms" follow them.
  emailMs: number('EMAIL_DELAY_MS', 500),
  paymentMs: number('PAYMENT_DELAY_MS', 2000),
  reportMs: number('REPORT_SECONDS', 10) * 1000,
};

if (!['open', 'closed', 'busy'].includes(config.load)) {
  throw new Error(`LOAD=${__ENV.LOAD} is unknown: take closed (users that wait and pause), busy (without pause) or open (fixed arrival rates)`);
}
