// The six scenarios against the async services (RabbitMQ, ports 8101-8110): each answer acknowledges that
// the work is durable and will complete. Run it with `k6 run k6-tests/script-async.js`; its twin is script-sync.js.
import http from 'k6/http';
import { check, sleep } from 'k6';
import { study } from './lib/study.js';
import { field } from './lib/requests.js';

const SAGA_SECONDS = 4; // by then every saga has ended

function orderHasFailed(at, answer) {
  sleep(SAGA_SECONDS);
  // A step of its own: this request is not part of the acknowledgement.
  const order = http.get(`${at.order}/orders/${field(answer, 'id')}`, { tags: { step: 'outcome', name: 'GET /orders/{id}' } });
  check(order, { [`S5 has failed after ${SAGA_SECONDS} s`]: (o) => o.status === 200 && field(o, 'status') === 'failed' });
}

const statusIs = (status) => ({ [`is ${status}`]: (answer) => field(answer, 'status') === status });

const load = study({
  mode: 'async',
  answers: {
    s1: { status: 202 },
    s2: { status: 202, checks: statusIs('processing') },
    s3: { status: 200 },
    s4: { status: 202, checks: statusIs('queued') },
    s5: { status: 202, checks: statusIs('pending'), afterwards: orderHasFailed },
    s6: { status: 200, checks: statusIs('tracked') },
  },
  // Slowest acceptable p95 of the acknowledgement, in ms.
  thresholds: { s1: 100, s2: 100, s3: 100, s4: 100, s5: 150, s6: 50 },
});

export const options = load.options;
export const setup = load.setup;
export const s1 = load.scenario('s1');
export const s2 = load.scenario('s2');
export const s3 = load.scenario('s3');
export const s4 = load.scenario('s4');
export const s5 = load.scenario('s5');
export const s6 = load.scenario('s6');
export default load.smoke;
export const handleSummary = load.summary;
