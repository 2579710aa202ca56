// Shared by all scripts: verify the services, send a request, check and count the answer, pause.
// A script adds the part that differs between the modes: the expected answer of each scenario.
import exec from 'k6/execution';
import http from 'k6/http';
import { check, sleep } from 'k6';
import { Counter } from 'k6/metrics';
import { addresses, config, routes } from './config.js';
import { active, options } from './options.js';
import { requests, timeouts } from './requests.js';
import { summary } from './summary.js';

const answersExpected = new Counter('answers_expected');
const answersUnexpected = new Counter('answers_unexpected');
const smokeRuns = new Counter('smoke_runs');
const pauses = { s4: 2 }; // seconds; the others 1
let complained = false; // one line per virtual user is enough to see what is wrong

// Ends the run with one line that names the first service that is down or runs in the other mode.
function refuseOthers(mode, at) {
  const params = { tags: { step: 'setup', name: 'GET /health' }, timeout: '5s' };
  for (const [name, address] of Object.entries(at)) {
    const answer = http.get(`${address}/health`, params);
    if (answer.status !== 200) {
      exec.test.abort(`${name}service does not answer at ${address}/health (${answer.error || answer.status}): start the ${mode} services, or set BASE_URL or PORT_OFFSET`);
      return;
    }
    const runs = answer.json('mode');
    if (runs !== mode) {
      exec.test.abort(`${name}service at ${address} runs in ${runs} mode, this script is for ${mode}: take script-${runs}.js, or start the ${mode} services`);
      return;
    }
  }
}

function complain(scenario, answer) {
  if (complained) return;
  complained = true;
  console.warn(`${scenario}: unexpected ${answer.status} ${answer.error || ''} ${String(answer.body).slice(0, 200)}`);
}

// `mode`; `answers`: scenario -> {status, checks, afterwards?}; `thresholds`: scenario -> p95 in ms.
export function study({ mode, answers, thresholds = {} }) {
  const at = addresses(mode);

  // `tags`: additional tags of this answer.
  function ask(scenario, runId, tags = {}) {
    const { status, checks, afterwards } = answers[scenario];
    const id = `${runId}-${scenario}-${exec.scenario.iterationInTest}`;
    // Metadata, not a tag: a tag with one value per request would create one time series per request.
    exec.vu.metrics.metadata.workflow = id;
    const answer = requests[scenario](at, id, {
      headers: { 'Content-Type': 'application/json', 'x-request-id': id },
      tags: { step: 'acknowledge', name: routes[scenario], ...tags },
      responseCallback: http.expectedStatuses(status),
      timeout: timeouts[scenario] ?? '30s',
    });
    const label = scenario.toUpperCase();
    const named = { [`${label} answers ${status}`]: (a) => a.status === status };
    for (const [text, holds] of Object.entries(checks ?? {})) named[`${label} ${text}`] = holds;
    const good = check(answer, named);
    (good ? answersExpected : answersUnexpected).add(1, { status: String(answer.status) });
    if (!good) complain(scenario, answer);
    // Only closed load pauses: arrival rates or answers set the pace of the others.
    if (config.load === 'closed' && good && afterwards) afterwards(at, answer);
  }

  function run(scenario, { run: runId }) {
    // The p95 threshold applies to these answers only.
    ask(scenario, runId, config.load === 'closed' && config.limits ? { limit: 'p95' } : {});
    if (config.load === 'busy' && config.pauseMs > 0) sleep(config.pauseMs / 1000);
    if (config.load === 'closed' && scenario !== 's6') sleep(pauses[scenario] ?? 1);
  }

  // k6's own options for a load (--vus, --iterations, --duration, K6_VUS, ...) replace the scenarios by this function: it runs
  // each scenario once, with its checks. A few answers do not give a p95, so there is no threshold on the time.
  function smoke({ run: runId }) {
    for (const scenario of active) {
      exec.vu.metrics.tags.scenario = scenario;
      ask(scenario, runId);
    }
    smokeRuns.add(1);
  }

  return {
    options: options(mode, thresholds),
    setup() {
      refuseOthers(mode, at);
      return { run: config.run || `r${Date.now().toString(36)}${Math.floor(Math.random() * 46656).toString(36)}` };
    },
    scenario: (name) => (data) => run(name, data),
    smoke,
    summary: (data) => summary(mode, data),
  };
}
