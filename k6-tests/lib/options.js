// k6 options from the configuration. Closed load: virtual users that wait for the answer, then pause. Open load: fixed
// arrival rates, independent of the answers; comparisons use it. Busy load: virtual users that wait and do not pause; it
// shows coordinated omission.
import { config, SCENARIOS } from './config.js';

// How long a request may occupy a virtual user, in seconds, in addition to its usual time.
const holds = {
  sync: { s1: config.emailMs / 1000, s2: config.paymentMs / 1000, s4: config.reportMs / 1000 },
  async: {},
};

function open(mode, name, position) {
  const { perSecond, ...each } = config.rates[name];
  const burst = config.burst?.rates[name];
  const highest = Math.max(perSecond, burst ? burst.perSecond : 0);
  // Twice the usual time plus a reserve: with fewer users k6 drops iterations, and the run measures k6.
  const busy = Math.ceil(highest * (2 * (holds[mode][name] || 0) + config.hiccupMs / 1000)) + 3;
  const users = {
    exec: name,
    // Without an offset, rates with a common divisor arrive in the same millisecond.
    startTime: `${position * 37}ms`,
    preAllocatedVUs: busy,
    // Each virtual user that k6 adds later costs a dropped iteration and half a megabyte.
    maxVUs: Math.max(busy, Math.min(busy * 4, 1000)),
    gracefulStop: '60s',
  };
  if (!burst) return { executor: 'constant-arrival-rate', ...each, duration: config.duration, ...users };
  const { after, seconds } = config.burst;
  const left = config.seconds - after - seconds;
  // A stage of length 0 is a step; targets are per second.
  const step = (rate, length) => [{ target: rate, duration: '0s' }, { target: rate, duration: `${length}s` }];
  const stages = [...step(perSecond, after), ...step(highest, seconds), ...step(perSecond, left)];
  return { executor: 'ramping-arrival-rate', startRate: perSecond, timeUnit: '1s', stages, ...users };
}

// Each virtual user sends the next request as soon as it has its answer.
function busy(name) {
  return { executor: 'constant-vus', exec: name, vus: config.users, duration: config.duration, gracefulStop: '60s' };
}

function closed(name) {
  const { users, reportUsers, clickRate } = config.profile;
  if (name === 's6') {
    return {
      executor: 'constant-arrival-rate',
      exec: name,
      rate: clickRate,
      timeUnit: '1s',
      duration: config.duration,
      preAllocatedVUs: Math.max(20, Math.ceil(clickRate / 4)),
      maxVUs: Math.max(100, clickRate),
    };
  }
  return { executor: 'constant-vus', exec: name, vus: name === 's4' ? reportUsers : users, duration: config.duration };
}

export const active = config.load === 'closed' ? SCENARIOS : SCENARIOS.filter((name) => config.rates[name]);

// `thresholds`: scenario -> the slowest acceptable p95 of the acknowledgement in ms; none for open load, where
// the comparison evaluates the times.
export function options(mode, thresholds) {
  const scenarios = {};
  active.forEach((name, position) => {
    if (config.load === 'busy') scenarios[name] = busy(name);
    else scenarios[name] = config.load === 'open' ? open(mode, name, position) : closed(name);
  });
  const limits = {};
  for (const name of active) {
    limits[`checks{scenario:${name}}`] = ['rate==1'];
    // A threshold that always holds makes k6 keep separate figures for this scenario in the summary.
    limits[`http_req_duration{scenario:${name},step:acknowledge}`] = ['max>=0'];
    if (config.load === 'closed' && config.limits && thresholds[name]) {
      limits[`http_req_duration{scenario:${name},limit:p95}`] = [`p(95)<${thresholds[name]}`];
    }
    for (const metric of ['answers_expected', 'answers_unexpected', 'dropped_iterations']) {
      limits[`${metric}{scenario:${name}}`] = ['count>=0'];
    }
  }
  return {
    scenarios,
    thresholds: limits,
    summaryTrendStats: ['avg', 'min', 'med', 'p(90)', 'p(95)', 'p(99)', 'max', 'count'],
    systemTags: ['scenario', 'status', 'method', 'name', 'check', 'error_code', 'expected_response'],
    setupTimeout: '30s',
  };
}
